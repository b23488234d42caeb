"""What can be verified about a checkpoint by running it: logits, greedy texts, beyond the window.

Lesson: 11_weights.

Conventions
    A greedy text is decided token by token. Where the two likeliest tokens are closer than
    rounding, another machine may take the other one and go on differently from there. So a text
    that differs is judged by its gaps: how far, reading the published text, each next token lies
    below the likeliest. A wrong model has large gaps, or (if it prefers nothing) many.
    Long prompts go through the cache in chunks, which bounds the memory and changes nothing else.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from mistral_edu.sampling import DamagedScoresError
from mistral_edu.weights.published import Continuation, Published
from mistral_edu.weights.verify_structure import FAIL, PASS, SKIPPED, Line

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.tokenizer import MistralTokenizer

CHUNK = 512
MOST_PARTINGS = 2  # tokens of a published text that may not be the likeliest here
SHOWN = 60  # characters of a text in the report


@torch.no_grad()
def behaviour(
    model: "MistralForCausalLM",
    tokenizer: "MistralTokenizer",
    published: Published,
    why_not_long: str | None = None,
) -> Iterator[Line]:
    """The lines about what the model computes, one after the other.

    Args:
        model: loaded from the checkpoint.
        tokenizer: the model's.
        published: what it should give.
        why_not_long: the reason to leave out prompts longer than the window; None runs them.
    """
    gap = published.tolerance(model.dtype).gap
    yield from logit_lines(model, published)
    yield shared_prefix_line(model, published.ids)
    for text in published.greedy:
        yield written(_title(text), _shown(text.text), greedy_line, model, tokenizer, text, gap)
    name, expected = f"after {len(published.long_ids):,} tokens", str(published.long_ends_in)
    if why_not_long is not None:
        yield Line(name, expected, "-", SKIPPED, why=why_not_long)
    else:
        yield written(name, expected, long_line, name, model, published)
    for text in published.long_greedy:
        if why_not_long is not None:
            yield Line(_title(text), _shown(text.text), "-", SKIPPED, why=why_not_long)
        else:
            yield written(_title(text), _shown(text.text), greedy_line, model, tokenizer, text, gap)


def written(name: str, expected: str, line: Callable[..., Line], *inputs: object) -> Line:
    """The line that `line(*inputs)` gives, or a failed one where the model can write nothing."""
    try:
        return line(*inputs)
    except DamagedScoresError as error:
        return Line(name, expected, "-", FAIL, why=str(error))


def long_line(name: str, model: "MistralForCausalLM", published: Published) -> Line:
    """Continue a prompt longer than the window and look at the last two ids."""
    ids = torch.tensor([published.long_ids], device=model.device)
    made = model.generate(ids, max_new_tokens=4, prefill_chunk_size=CHUNK)[0, -2:].tolist()
    status = PASS if made == published.long_ends_in else FAIL
    return Line(name, str(published.long_ends_in), str(made), status)


def logit_lines(model: "MistralForCausalLM", published: Published) -> Iterator[Line]:
    """The mean logit of every position, and single logits of the first."""
    ids = torch.tensor([published.ids], device=model.device)
    logits = model(ids, use_cache=False).logits[0].float().cpu()
    tolerance = published.tolerance(model.dtype)
    means = zip(published.mean_logits, logits.mean(dim=-1).tolist(), strict=True)
    for position, (expected, found) in enumerate(means):
        yield _close(f"mean logit at position {position}", expected, found, tolerance.mean)
    for token, expected in published.first_logits(model.dtype).items():
        found = logits[0, token].item()
        yield _close(f"logit of token {token} at position 0", expected, found, tolerance.logit)


def shared_prefix_line(model: "MistralForCausalLM", ids: list[int]) -> Line:
    """Three rows that begin alike, and the same packed into one row by a 12 × 12 mask.

    Args:
        ids: the first three are what the rows share; what follows makes their ends.

    Returns:
        A line that passes if the likeliest next tokens after all nine ends are the same.
    """
    start, ends = ids[:3], [ids[3 + row : 6 + row] for row in range(3)]
    rows = torch.tensor([start + end for end in ends], device=model.device)
    alone = model(rows, use_cache=False).logits[:, 3:].argmax(dim=-1)

    packed = torch.tensor([start + sum(ends, [])], device=model.device)
    positions = torch.tensor([[0, 1, 2] + 3 * [3, 4, 5]], device=model.device)
    row_of = torch.tensor([-1] * 3 + [0] * 3 + [1] * 3 + [2] * 3, device=model.device)
    same = (row_of[:, None] == row_of) | (row_of == -1)
    mask = (same & (positions.mT >= positions))[None, None]  # → (1, 1, 12, 12)
    logits = model(packed, attention_mask=mask, position_ids=positions, use_cache=False).logits
    together = logits[0, 3:].argmax(dim=-1).view(3, 3)
    status = PASS if torch.equal(alone, together) else FAIL
    name = "likeliest tokens, shared prefix under a 4D mask"
    return Line(name, str(alone.tolist()), str(together.tolist()), status)


def _close(name: str, expected: float, found: float, tolerance: float) -> Line:
    passed = abs(found - expected) <= tolerance  # false for NaN
    status = PASS if passed else FAIL
    return Line(name, f"{expected:.4f}", f"{found:.4f}", status, tolerance=f"± {tolerance:g}")


def greedy_line(
    model: "MistralForCausalLM", tokenizer: "MistralTokenizer", text: Continuation, tolerance: float
) -> Line:
    """Continue a prompt greedily and hold it against the published text.

    Args:
        text: the prompt and the text.
        tolerance: the gap, in logits, up to which a text that differs passes.
    """
    size = model.config.vocab_size
    if tokenizer.vocab_size != size:
        why = f"the tokenizer has {tokenizer.vocab_size} ids, the model {size}"
        return Line(_title(text), _shown(text.text), "-", SKIPPED, why=why)
    prompt = tokenizer.encode(text.prompt)
    ids = torch.tensor([prompt], device=model.device)
    made = model.generate(ids, max_new_tokens=text.new_tokens, prefill_chunk_size=CHUNK)
    whole = tokenizer.decode(made[0].tolist())
    found, said = whole[len(text.prompt) :], f"gap ≤ {tolerance:g}"
    if whole.startswith(text.prompt + text.text):
        return Line(_title(text), _shown(text.text), _shown(found), PASS, tolerance=said)
    gaps = partings(model, prompt, tokenizer.encode(text.prompt + text.text))
    why = f"another text; of the published one {len(gaps)} tokens are not the likeliest"
    why += f", by up to {max(gaps, default=0.0):.3f}"
    near = len(gaps) <= MOST_PARTINGS and max(gaps, default=0.0) <= tolerance
    status = PASS if near else FAIL
    return Line(_title(text), _shown(text.text), _shown(found), status, tolerance=said, why=why)


def partings(model: "MistralForCausalLM", prompt: list[int], whole: list[int]) -> list[float]:
    """For each token of a text that is not the likeliest, how far it lies below that, in logits.

    Args:
        prompt: ids that are given; they must begin `whole`, or one gap is infinite.
        whole: ids of prompt and text.
    """
    if whole[: len(prompt)] != prompt:
        return [float("inf")]
    cache, gaps = None, []
    ids = torch.tensor([whole], device=model.device)
    for start in range(0, len(whole) - 1, CHUNK):
        chunk = ids[:, start : min(start + CHUNK, len(whole) - 1)]
        output = model(chunk, past_key_values=cache, use_cache=True)
        cache, logits = output.past_key_values, output.logits[0].float()
        for place, scores in enumerate(logits, start + 1):
            chosen = place >= len(prompt)  # nobody chose the prompt
            if chosen and int(scores.argmax()) != whole[place]:
                gaps.append((scores.max() - scores[whole[place]]).item())
    return gaps


def _title(text: Continuation) -> str:
    start = text.prompt if len(text.prompt) <= 30 else "…" + text.prompt[-28:]
    return f"greedy after {start!r}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
