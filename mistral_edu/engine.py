"""The engine: the same model at full speed, for generating text and nothing else.

    prefill:  chunk by chunk through the ring, so many tokens in memory at once and no more
    step:     one token for each row, always the same operations on the same memory

What the plain model settles anew in every pass is settled here once: shapes, slots, who sees whom.
A step is then little more than reading the weights, and on a GPU it is recorded and replayed.

Source: "Mistral 7B" (arXiv 2310.06825), section 2; Pope et al., "Efficiently Scaling Transformer
Inference" (arXiv 2211.05102), for what bounds a step.
Lesson: 14_the_full_7b.

Conventions
    No gradients. Scores equal the plain model's up to the rounding of sums in another order.
    Engine and model share their weights: change them in place and the engine follows. After the
    model was moved or cast, or given other tensors (`load_state_dict(assign=True)`), make another.
    One engine continues one batch at a time, for one thread. For its parts, see `engine_passes`
    (the layers), `engine_ring` (the cache) and `engine_steps` (the loop).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu import engine_checks, engine_steps
from mistral_edu.engine_choice import ChoosingStep
from mistral_edu.engine_graph import RecordedStep
from mistral_edu.engine_passes import Passes
from mistral_edu.engine_ring import StaticRing
from mistral_edu.engine_ways import MEASURED
from mistral_edu.generation import GenerationOutput, collect
from mistral_edu.generation_config import GenerationConfig
from mistral_edu.generation_request import GenerationRequest, checked_mask, prepare
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.streamers import Streamer

CHUNK = {"cpu": 1024}  # tokens of prompts at once: what is made of them should stay in the caches
MOST_TOKENS = 4096  # the same for a GPU, which wants many
LOOK_EVERY = 16  # steps that a GPU makes before its tokens are fetched


class Engine:
    """A language model set up to continue texts, so many at a time.

    Args:
        model: whose weights to run.
        batch_size: B, rows that are continued at once.
        max_chunk: how many tokens of the prompts, over all rows, pass through the layers at once;
            None takes 1024 on a CPU and 4096 elsewhere.
        capacity: tokens of a prompt and its answer; needed if the model has no window. Less than
            the window saves memory.
        multiply: how a step multiplies by the matrices: "measured" for the fastest way on this
            CPU, which is tried out (see `engine_ways`), or "plain", "swapped", or "compiled", then
            with all that is between them if it can be had. Ways round sums differently: for the
            same bits every time, name one.
        record: whether to record the step and replay it; None where there is a CUDA GPU.

    Raises:
        ValueError: for anything but a MistralForCausalLM with all its heads, for weights of several
            types, for a way to multiply that cannot be had here, without window and capacity, for
            a batch_size or max_chunk below 1, or record=True without a CUDA GPU.

    >>> from mistral_edu import load
    >>> model, tokenizer = load("tiny")
    >>> engine, ids = Engine(model), torch.tensor([tokenizer.encode("It was a windy")])
    >>> scores = engine.prefill(ids)
    >>> torch.allclose(scores, model(ids).logits[:, -1], atol=1e-4)
    True
    >>> scores = engine.step(scores.argmax(dim=-1))
    >>> torch.equal(engine.generate(ids, max_new_tokens=8), model.generate(ids, max_new_tokens=8))
    True
    """

    def __init__(
        self,
        model: MistralForCausalLM,
        batch_size: int = 1,
        *,
        max_chunk: int | None = None,
        capacity: int | None = None,
        multiply: str = MEASURED,
        record: bool | None = None,
    ) -> None:
        engine_checks.require_fit(model, batch_size=batch_size, max_chunk=max_chunk)
        max_chunk = max_chunk or CHUNK.get(model.device.type, MOST_TOKENS)
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self.batch_size, self.max_chunk = batch_size, max_chunk
        self.moves = engine_checks.Moves()
        self._ring = StaticRing(
            self.config, batch_size, capacity=capacity, dtype=self.dtype, device=self.device
        )
        with torch.no_grad():
            self._record = self.device.type == "cuda" if record is None else record
            static = self._record or self.device.type != "cpu"
            self._passes = Passes(model, self._ring, multiply=multiply, static=static)
            self._home = engine_checks.Home(model)
            self._choosing: ChoosingStep | None = None
            self._step: Callable[[Tensor], Tensor] = self._passes.step
            if self._record:
                ids = torch.zeros(batch_size, dtype=torch.long, device=self.device)
                self._step = RecordedStep(self._step, ids)
                self._ring.reset()

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values: the same before, during and after any text.

        >>> from mistral_edu import MistralConfig
        >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
        ...     num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, sliding_window=4)
        >>> Engine(MistralForCausalLM(config), batch_size=2).cache_bytes  # 2 · 2 · 4 · 4 numbers
        256
        """
        return self._ring.nbytes

    @property
    def ways(self) -> dict[str, str]:
        """How a step is made, and its products multiplied: what was found fastest.

        >>> from mistral_edu import load
        >>> Engine(load("tiny")[0], multiply="plain").ways["down"]
        'plain'
        """
        return self._passes.ways

    @torch.no_grad()
    def prefill(
        self, input_ids: Int[Tensor, "B T"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "B V"]:
        """Begin new texts: read their prompts, return the scores of what comes next.

        Args:
            input_ids: a prompt for each row, padded on the left if ragged.
            attention_mask: (B, T), 0 marks padding.

        Raises:
            ValueError: for another number of rows, padding on the right, ids outside the
                vocabulary, more tokens than the capacity, or a model moved or cast meanwhile.
        """
        real = checked_mask(input_ids, attention_mask).cpu()
        engine_checks.require_rows(len(input_ids), self.batch_size)
        engine_checks.require_vocabulary(input_ids, self.config.vocab_size)
        self._home.require()
        self._ring.require_room(int(real.sum(dim=1).max()))
        size = max(1, self.max_chunk // self.batch_size)
        with self.moves.one():
            self._ring.reset()
            for start in range(0, input_ids.shape[1], size):
                chunk = slice(start, start + size)
                x = self._passes.chunk(input_ids[:, chunk], real[:, chunk])
        return self._passes.scores(x)

    def step(self, ids: Int[Tensor, "B"]) -> Float[Tensor, "B V"]:
        """Continue each row by one token; return the scores of what comes next.

        Ids on a GPU are not looked at, for that would be to wait for it: they must be in the
        vocabulary.

        Raises:
            ValueError: for anything but one id for each row, or beyond the capacity.
            RuntimeError: after a step that was interrupted, or failed.
        """
        engine_checks.require_column(ids, self.batch_size, self.config.vocab_size)
        with self.advancing():
            return self._step(ids.to(self.device))

    @contextmanager
    def advancing(self) -> Iterator[None]:
        """Around what continues each row by one token: see that there is room, and count it.

        Raises:
            ValueError, RuntimeError: as `step`.
        """
        with torch.no_grad(), self.moves.alone():
            self.moves.require_whole()
            self._ring.require_room(max(self._ring.counts) + 1)
            with self.moves.one():
                yield
                self._ring.count([1] * self.batch_size)

    @torch.no_grad()
    def choosing_step(self, rules: GenerationConfig, ahead: int) -> ChoosingStep:
        """A step that chooses its tokens; see there for the arguments.

        Kept until one by other rules is asked for. Where steps are recorded, texts are lost then.
        """
        kept, shape = self._choosing, (self.batch_size, self.config.vocab_size)
        if kept is None or (kept.rules, kept.ahead) != (rules, ahead):
            self._choosing = None  # a recording holds memory: it is given back before the next
            kept = ChoosingStep(self._passes.step, rules, shape, ahead, self.device)
            if self._record:
                with self.moves.one():
                    kept.record()
                    self._ring.reset()
            self._choosing = kept
        return kept

    def generate(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Tensor | None = None,
        config: GenerationConfig | None = None,
        streamer: Streamer | None = None,
        tokenizer: Any = None,
        **options: Any,
    ) -> Int[Tensor, "B S"]:
        """Continue each row; all as in `generation.generate`, but without beams.

        Raises:
            ValueError: as there, and as `prefill`.
        """
        return self.generate_with_details(
            input_ids, attention_mask, config, streamer, tokenizer, **options
        ).sequences

    def generate_with_details(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Tensor | None = None,
        config: GenerationConfig | None = None,
        streamer: Streamer | None = None,
        tokenizer: Any = None,
        **options: Any,
    ) -> GenerationOutput:
        """As `generate`, and say how likely each new token was and why each row ended."""
        request = prepare(self, input_ids, attention_mask, config, tokenizer, options)
        return collect(self._steps(request), request, streamer)

    def stream(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Tensor | None = None,
        config: GenerationConfig | None = None,
        tokenizer: Any = None,
        **options: Any,
    ) -> Iterator[Int[Tensor, "B"]]:
        """Yield one new id for each row at a time; on a GPU they come a few at once."""
        request = prepare(self, input_ids, attention_mask, config, tokenizer, options)
        return (step.tokens for step in self._steps(request))

    def _steps(self, request: GenerationRequest) -> Iterator[engine_steps.Step]:
        engine_checks.require_rows(len(request.ids), self.batch_size)
        engine_checks.require_no_beams(request.config)
        longest = int(request.mask.sum(dim=1).max())
        self._ring.require_room(longest + request.config.max_new_tokens)
        return engine_steps.steps(self, request, 1 if self.device.type == "cpu" else LOOK_EVERY)
