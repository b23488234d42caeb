"""Beam search: keep the N most likely texts of each row, and extend them all.

    score(text) = Σ log p(token | before) / length ** length_penalty,   for texts that have ended

Source: Graves (arXiv 1211.3711), section 3.2; Wu et al. (arXiv 1609.08144), section 7, for the
length. What is returned is what `transformers` returns, rule by rule.
Lesson: 12_generation_and_chat.

Conventions
    Of each row's N · V one-token extensions, the best (1 + eos ids) · N are looked at (at least
    2 N): so many that N of them have not ended. A text that ends below the best N is forgotten.
    Beam n of row b is row b · N + n of the cache, and moves with its text after every token.
    Candidates come to the CPU once per step; all that follows is bookkeeping on short tensors.
"""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mistral_edu import sampling, stopping
from mistral_edu.generation_request import GenerationRequest, advance, restrain

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM


@dataclass(frozen=True)
class Beams:
    """N texts for each row. Their tensors are as long as a text can get, and padded.

    Args:
        scores: sums of log-probabilities, after the rules; −inf for a place without a text.
        ids: new ids.
        logprobs: the model's own log-probability of each id.
        lengths: how many ids the text has.
        endings: how it ended (codes of `stopping`).
    """

    scores: Float[Tensor, "B N"]
    ids: Int[Tensor, "B N S"]
    logprobs: Float[Tensor, "B N S"]
    lengths: Int[Tensor, "B N"]
    endings: Int[Tensor, "B N"]

    def take(self, which: Int[Tensor, "B M"]) -> "Beams":
        """Copy the texts `which` of each row."""
        rows = torch.arange(len(which))[:, None]
        return Beams(*(getattr(self, field.name)[rows, which] for field in fields(self)))

    def join(self, other: "Beams") -> "Beams":
        """Both rows' texts, one after the other."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Beams(*(torch.cat(pair, dim=1) for pair in pairs))


def no_beams(request: GenerationRequest) -> Beams:
    """N places for texts in each row, none of them taken."""
    rows, width = len(request.ids), request.config.num_beams
    shape = (rows, width, request.config.max_new_tokens)
    nothing = torch.zeros(rows, width, dtype=torch.long)
    return Beams(
        scores=torch.full((rows, width), sampling.NEVER),
        ids=torch.full(shape, request.pad),
        logprobs=torch.zeros(shape),
        lengths=nothing,
        endings=nothing + stopping.RUNNING,
    )


def extend(
    running: Beams,
    logits: Float[Tensor, "BN V"],
    request: GenerationRequest,
    seen: Bool[Tensor, "BN V"] | None,
    made: int,
) -> tuple[Beams, Int[Tensor, "B M"]]:
    """The best one-token extensions of the running texts, and which text each extends."""
    rows, width = running.scores.shape
    plain = logits.log_softmax(dim=-1)
    ruled = restrain(plain, request.config, request.ends_on_device, made, seen)
    ruled = ruled.view(rows, width, -1)
    total = ruled + running.scores.to(ruled.device)[:, :, None]  # (B, N, V)
    best = total.flatten(1).topk(_candidates(request))
    scores, index = best.values.cpu(), best.indices.cpu()
    sampling.refuse_damage(~scores.isnan().any(dim=1))  # topk takes NaN for the largest

    parents, tokens = index // logits.shape[-1], index % logits.shape[-1]
    texts = running.take(parents)
    texts.ids[:, :, made] = tokens
    texts.logprobs[:, :, made] = plain.view(rows, -1).gather(1, best.indices).cpu()
    endings = torch.where(torch.isin(tokens, request.ends), stopping.EOS, stopping.RUNNING)
    watched = (endings == stopping.RUNNING) & request.has_stops
    for row, text in watched.nonzero().tolist():
        if stopping.holds_stop(request, row, texts.ids[row, text, : made + 1].tolist()):
            endings[row, text] = stopping.STOP
    return replace(texts, scores=scores, lengths=texts.lengths + 1, endings=endings), parents


def collect(
    finished: Beams, texts: Beams, open_rows: Bool[Tensor, "B"], request: GenerationRequest
) -> Beams:
    """Put the texts that have just ended among the finished ones; keep the best N."""
    config = request.config
    ended = (texts.endings != stopping.RUNNING) | (texts.lengths == config.max_new_tokens)
    ended[:, config.num_beams :] = False
    scores = texts.scores / texts.lengths**config.length_penalty
    scores = scores.masked_fill(~(ended & open_rows[:, None]), sampling.NEVER)
    every = finished.join(replace(texts, scores=scores))
    return every.take(every.scores.topk(config.num_beams).indices)


def survive(
    texts: Beams, parents: Int[Tensor, "B M"], width: int
) -> tuple[Beams, Int[Tensor, "BN"]]:
    """The best N texts that have not ended, and the cache rows that they continue."""
    scores = texts.scores.masked_fill(texts.endings != stopping.RUNNING, sampling.NEVER)
    best = scores.topk(width).indices
    rows = torch.arange(len(best))[:, None] * width + parents.gather(1, best)
    return replace(texts, scores=scores).take(best), rows.flatten()


def may_improve(running: Beams, finished: Beams, request: GenerationRequest) -> Bool[Tensor, "B"]:
    """Rows whose running texts may yet end better than the worst finished one.

    A guess, unless `early_stopping="never"`: it takes the best to end now, at its score so far.
    """
    config, worst = request.config, finished.scores.amin(dim=1)
    if config.early_stopping is True:
        return worst == sampling.NEVER  # some place is still free
    length = int(running.lengths[0, 0])
    if config.early_stopping == "never" and config.length_penalty > 0:
        length = config.max_new_tokens
    return running.scores[:, 0] / length**config.length_penalty > worst


def search(
    model: "MistralForCausalLM", request: GenerationRequest
) -> tuple[Int[Tensor, "M S"], Float[Tensor, "M S"], Int[Tensor, "M"]]:
    """Find the best texts of each row.

    Returns:
        For each row its `num_return_sequences` best: new ids, their log-probabilities, endings.

    Raises:
        ValueError: if the vocabulary is too small for so many beams.
        DamagedScoresError: for scores that are not numbers.
    """
    _require_choice(request, model.config.vocab_size)
    finished = _search(model, request)
    count = request.config.num_return_sequences
    length = int(finished.lengths[:, :count].max())
    best = (finished.ids[..., :length], finished.logprobs[..., :length], finished.endings)
    ids, logprobs, endings = (field[:, :count].flatten(0, 1) for field in best)
    return ids, logprobs, endings


def _search(model: "MistralForCausalLM", request: GenerationRequest) -> Beams:
    config, rows = request.config, len(request.ids)
    cache, seen = request.new_cache(model), request.seen_tokens(model.config.vocab_size)
    running, finished = no_beams(request), no_beams(request)
    running.scores[:, 0] = 0.0  # All N begin as one: N equal ones would stay equal.
    open_rows = torch.ones(rows, dtype=torch.bool)
    ids, moves = request.ids, torch.arange(rows).repeat_interleave(config.num_beams)
    logits = advance(model, ids, request.mask, cache, config.prefill_chunk_size)

    for made in range(config.max_new_tokens):
        moves = moves.to(logits.device)
        cache.reorder(moves)
        seen = seen[moves] if seen is not None else None
        if made == 0:
            logits = logits[moves]
        else:
            ids = running.ids[:, :, made - 1].reshape(-1, 1).to(logits.device)
            logits = advance(model, ids, None, cache)
            seen = seen.scatter(1, ids, True) if seen is not None else None
        texts, parents = extend(running, logits, request, seen, made)
        finished = collect(finished, texts, open_rows, request)
        running, moves = survive(texts, parents, config.num_beams)
        open_rows = open_rows & may_improve(running, finished, request)
        if not open_rows.any():
            break
    return finished


def _require_choice(request: GenerationRequest, vocab_size: int) -> None:
    needed = _candidates(request)
    if needed > vocab_size:
        raise ValueError(
            f"num_beams={request.config.num_beams} with {len(request.ends)} eos ids looks at "
            f"{needed} tokens at a time, but vocab_size={vocab_size}: use fewer beams"
        )


def _candidates(request: GenerationRequest) -> int:
    return max(2, 1 + len(request.ends)) * request.config.num_beams
