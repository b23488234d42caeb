"""What is compared with `transformers`: each case takes one pair of models and yields differences.

A difference is relative to the largest value expected. Both models have the same weights and, but
for the last case, float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn

from mistral_edu import MistralConfig, MistralForCausalLM
from mistral_edu.heads import MistralForSequenceClassification
from tests.models import chunked_logits, difference, left_padded, random_config, random_ids

PAD = 0
FLOAT32_BOUND = 1e-5

Differences = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Pair:
    """Our model and theirs, with the same weights."""

    config: MistralConfig
    ours: MistralForCausalLM
    theirs: transformers.MistralForCausalLM

    @property
    def span(self) -> int:
        """The window, or what stands in for it in choosing lengths."""
        return self.config.sliding_window or 6

    def ids(self, rows: int = 2, length: int | None = None, seed: int = 0) -> Tensor:
        """Random ids, by default longer than three windows."""
        return random_ids(self.ours, rows, length or 3 * self.span + 5, seed)

    def texts(self) -> list[Tensor]:
        """Three texts: one token, one window, more than three windows."""
        return [self.ids(1, n, seed=n)[0] for n in (1, self.span, 3 * self.span + 2)]


def their_config(config: MistralConfig) -> transformers.MistralConfig:
    """The same architecture for `transformers`."""
    fields = {**config.to_dict(), "pad_token_id": PAD}
    return transformers.MistralConfig(**fields, attn_implementation="eager")


def make_pair(seed: int) -> Pair:
    """A random configuration with random weights, in both libraries."""
    torch.manual_seed(seed)
    config = random_config(seed)
    ours = MistralForCausalLM(config).eval()
    theirs = transformers.MistralForCausalLM(their_config(config)).eval()
    theirs.load_state_dict(ours.state_dict())
    return Pair(config, ours, theirs)


@torch.no_grad()
def no_cache(pair: Pair) -> Differences:
    """The whole text in one pass."""
    ids = pair.ids()
    yield "", difference(pair.ours(ids, use_cache=False).logits, pair.theirs(ids).logits)


@torch.no_grad()
def cached(pair: Pair) -> Differences:
    """Through the cache, in chunks of every kind of size, against their one pass."""
    ids, span = pair.ids(), pair.span
    expected = pair.theirs(ids, use_cache=False).logits
    sizes = {"W − 1": span - 1, "W": span, "W + 1": span + 1, "3W": 3 * span, "all": ids.shape[1]}
    for name, size in {"1": 1, "2": 2, **sizes}.items():
        found = chunked_logits(pair.ours, ids, max(1, size))
        yield "step by step" if name == "1" else f"chunks of {name}", difference(found, expected)


@torch.no_grad()
def left_padding(pair: Pair) -> Differences:
    """Ragged rows padded on the left, cached: against theirs, padded and alone."""
    texts = pair.texts()
    ids, mask = left_padded(texts)
    together = chunked_logits(pair.ours, ids, pair.span + 1, mask)
    theirs = pair.theirs(ids, attention_mask=mask, use_cache=False).logits
    for row, text in enumerate(texts):
        found, alone = together[row, -len(text) :], pair.theirs(text[None]).logits[0]
        yield "padded", difference(found, theirs[row, -len(text) :])
        yield "alone", difference(found, alone)


def right_padded(texts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one right-padded batch, with its mask."""
    ids, mask = left_padded([text.flip(0) for text in texts])
    return ids.flip(1), mask.flip(1)


@torch.no_grad()
def right_padding(pair: Pair) -> Differences:
    """Ragged rows padded on the right, in one pass."""
    texts = pair.texts()
    ids, mask = right_padded(texts)
    found = pair.ours(ids, attention_mask=mask).logits
    theirs = pair.theirs(ids, attention_mask=mask, use_cache=False).logits
    for row, text in enumerate(texts):
        yield "", difference(found[row, : len(text)], theirs[row, : len(text)])


def additive(mask: Tensor) -> Tensor:
    """A boolean mask as `transformers` adds it to the scores."""
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


@torch.no_grad()
def mask_4d(pair: Pair) -> Differences:
    """A random mask with four axes: alone, and over a cache that still holds everything."""
    ids = pair.ids(length=9)
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(2, 1, 9, 9, generator=generator) < 0.5) | torch.eye(9, dtype=torch.bool)
    expected = pair.theirs(ids, attention_mask=additive(mask), use_cache=False).logits
    options = {"use_cache": False}
    yield "bool", difference(pair.ours(ids, attention_mask=mask, **options).logits, expected)
    found = pair.ours(ids, attention_mask=additive(mask), **options).logits
    yield "added", difference(found, expected)
    held = min(pair.span, 8) - 1  # their windowed cache keeps W − 1 tokens
    if held:
        ours = pair.ours(ids[:, :held], use_cache=True).past_key_values
        theirs = pair.theirs(ids[:, :held], use_cache=True).past_key_values
        new, over = ids[:, held : held + 1], mask[:, :, held : held + 1, : held + 1]
        expected = pair.theirs(new, attention_mask=additive(over), past_key_values=theirs).logits
        found = pair.ours(new, attention_mask=over, past_key_values=ours).logits
        yield "over a cache", difference(found, expected)


@torch.no_grad()
def inputs_embeds(pair: Pair) -> Differences:
    """Embeddings instead of ids, some that no token has."""
    embeddings = pair.ours.get_input_embeddings()(pair.ids()) * 1.5
    expected = pair.theirs(inputs_embeds=embeddings, use_cache=False).logits
    yield "", difference(pair.ours(inputs_embeds=embeddings).logits, expected)


@torch.no_grad()
def hidden_states(pair: Pair) -> Differences:
    """All L + 1 hidden states."""
    ids, options = pair.ids(), {"output_hidden_states": True, "use_cache": False}
    found, expected = (model(ids, **options).hidden_states for model in (pair.ours, pair.theirs))
    assert len(found) == len(expected) == pair.config.num_hidden_layers + 1
    for own, other in zip(found, expected, strict=True):
        yield "", difference(own, other)


@torch.no_grad()
def attentions(pair: Pair) -> Differences:
    """The attention weights of all layers, in one pass and of one token over a cache."""
    ids, options = pair.ids(), {"output_attentions": True, "use_cache": True}
    for name, start in (("one pass", 0), ("over a cache", ids.shape[1] - 1)):
        found, expected = [], []
        for model, result in ((pair.ours, found), (pair.theirs, expected)):
            past = model(ids[:, :start], use_cache=True).past_key_values if start else None
            result.extend(model(ids[:, start:], past_key_values=past, **options).attentions)
        for own, other in zip(found, expected, strict=True):
            assert not start or own.shape[-1] == other.shape[-1]
            yield name, difference(own, other)


def loss_and_gradients(pair: Pair) -> Differences:
    """The language model's loss with ignored labels, and the gradient of every weight."""
    ids = pair.ids()
    labels = ids.clone()
    labels[0, :4] = -100
    losses = [model(ids, labels=labels, use_cache=False).loss for model in (pair.ours, pair.theirs)]
    yield "loss", difference(*losses)
    grads = []
    for model, loss in zip((pair.ours, pair.theirs), losses, strict=True):
        model.zero_grad()
        loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    largest = max(gradient.abs().max() for gradient in grads[1].values())
    for name, gradient in grads[0].items():
        yield "gradients", ((gradient - grads[1][name]).abs().max() / largest).item()


def labels_for(count: int, rows: int) -> dict[str, Tensor]:
    """Labels of each kind that `count` columns allow."""
    generator = torch.Generator().manual_seed(count)
    if count == 1:
        return {"MSE": torch.randn(rows, generator=generator)}
    classes = torch.randint(count, (rows,), generator=generator)
    several = torch.randint(2, (rows, count), generator=generator).float()
    return {"cross-entropy": classes, "BCE": several}


@torch.no_grad()
def classification(pair: Pair) -> Differences:
    """Scores of texts and each loss, for 1, 2 and 5 labels, padded on either side.

    Scores are relative to the largest score of any token: that of one text may be near zero.
    """
    for count in (1, 2, 5):
        config = pair.config.changed(num_labels=count, pad_token_id=PAD)
        ours = MistralForSequenceClassification(config).eval()
        ours.model.load_state_dict(pair.ours.model.state_dict())
        name = "1 label" if count == 1 else f"{count} labels"
        for padded in (left_padded, right_padded):
            ids, mask = padded(pair.texts())
            for kind, labels in labels_for(count, len(ids)).items():
                # A new one each time: it writes the kind of its first labels into its config.
                theirs = transformers.MistralForSequenceClassification(their_config(config)).eval()
                theirs.load_state_dict(ours.state_dict())
                expected = theirs(ids, attention_mask=mask, labels=labels)
                found = ours(ids, attention_mask=mask, labels=labels)
                yield kind, difference(found.loss, expected.loss)
            largest = theirs.score(theirs.model(ids, attention_mask=mask)[0]).abs().max()
            yield name, ((found.logits - expected.logits).abs().max() / largest).item()
            if padded is right_padded:  # without a mask, by the pad id: its tokens come too late
                by_id = ours(ids).logits
                yield name, ((by_id - expected.logits).abs().max() / largest).item()


def rms(x: Tensor) -> float:
    """Root mean square."""
    return x.square().mean().sqrt().item()


@torch.no_grad()
def bfloat16(pair: Pair) -> Differences:
    """Both in bfloat16: against each other, against float32, and who of the two is nearer."""
    ids = pair.ids()
    exact = pair.theirs(ids, use_cache=False).logits
    halves: list[nn.Module] = []
    for model in (pair.ours, pair.theirs):
        half = type(model)(model.config).eval()
        half.load_state_dict(model.state_dict())
        halves.append(half.bfloat16())
    found, expected = (half(ids, use_cache=False).logits.float() for half in halves)
    yield "ours against theirs", difference(found, expected)
    yield "ours against float32", difference(found, exact)
    yield "ours against float32, RMS", rms(found - exact) / rms(exact)
    yield "our RMS over theirs", rms(found - exact) / rms(expected - exact)


CASES: dict[str, Callable[[Pair], Differences]] = {
    "no cache": no_cache,
    "cached": cached,
    "left padding": left_padding,
    "right padding": right_padding,
    "4D mask": mask_4d,
    "inputs_embeds": inputs_embeds,
    "hidden states": hidden_states,
    "attentions": attentions,
    "loss and gradients": loss_and_gradients,
    "classification": classification,
    "bfloat16": bfloat16,
}


# In bfloat16 each rounding is 2⁻⁸, and they add up over layers. Theirs also rounds the cosine and
# sine, ours keeps them, so the two differ by about as much as each differs from float32.
BFLOAT16_BOUNDS = {
    "ours against theirs": 1e-1,
    "ours against float32": 1e-1,
    "ours against float32, RMS": 4e-2,
    "our RMS over theirs": 1.5,
}


def bound_of(case: str, part: str) -> float:
    """The largest difference that is rounding and no mistake."""
    return BFLOAT16_BOUNDS[part] if case == "bfloat16" else FLOAT32_BOUND
