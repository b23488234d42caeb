"""GenerationConfig: the rules by which a text is continued.

Source: the names and their meaning are those of `transformers`' `GenerationConfig`.
Lesson: 12_generation_and_chat.

Conventions
    A rule that would have no effect is refused rather than ignored: `temperature=0.7` without
    `do_sample=True` is a mistake, and the text would not show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ONLY_WHEN_SAMPLING: dict[str, object] = {
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "min_p": None,
}
ONLY_WITH_BEAMS: dict[str, object] = {
    "length_penalty": 1.0,
    "early_stopping": False,
    "num_return_sequences": 1,
}


@dataclass(frozen=True)
class GenerationConfig:
    """How to continue a text.

    Args:
        max_new_tokens: stop after so many, 0 or more.
        min_new_tokens: do not end a row by an eos id before so many.
        do_sample: draw at random; False takes the most likely token (greedy).
        temperature: above 1 flattens the distribution, below 1 sharpens it.
        top_k, top_p, min_p: filters (see `sampling`); None switches one off.
        repetition_penalty: above 1 discourages tokens already in the row, prompt included.
        num_beams: above 1 keeps so many candidate texts for each row (see `beam_search`).
        length_penalty: a finished beam scores its log-probability / its length ** this.
        early_stopping: end a row's beams when num_beams have finished (True), when the running
            ones are not likely to do better (False), or cannot ("never").
        num_return_sequences: how many beams to return for each row, best first.
        eos_token_id: id or ids that end a row, () for none; None takes the model config's.
        stop_strings: texts that end a row once its new text holds one (needs the tokenizer).
        stop_sequences: sequences of ids that end a row once its new ids hold one.
        pad_token_id: what finished rows emit; None takes the config's, or else the eos id.
        seed: row b draws from seed + b; a sequence gives each row its own.
        prefill_chunk_size: tokens of the prompt per forward pass; None takes them all at once.

    Raises:
        ValueError: for a value out of range, or one that would have no effect.

    >>> GenerationConfig(temperature=0.0)
    Traceback (most recent call last):
    ...
    ValueError: temperature=0.0 must be above 0 and finite; for the most likely token use \
do_sample=False
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_return_sequences: int = 1
    eos_token_id: int | Sequence[int] | None = None
    stop_strings: str | Sequence[str] = ()
    stop_sequences: Sequence[Sequence[int]] = ()
    pad_token_id: int | None = None
    seed: int | Sequence[int] | None = None
    prefill_chunk_size: int | None = None

    @property
    def strings(self) -> tuple[str, ...]:
        """The stop strings as a tuple, also where only one was given.

        >>> GenerationConfig(stop_strings="the end").strings
        ('the end',)
        """
        if isinstance(self.stop_strings, str):
            return (self.stop_strings,)
        return tuple(self.stop_strings)

    def __post_init__(self) -> None:
        self._require_counts()
        self._require_ranges()
        self._require_stops()
        self._refuse_what_has_no_effect()

    def _require_counts(self) -> None:
        if not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens} and max_new_tokens={self.max_new_tokens} "
                "must be 0 or more, and the least at most the most"
            )
        for name in ("top_k", "num_beams", "num_return_sequences", "prefill_chunk_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if self.num_return_sequences > self.num_beams > 1:
            raise ValueError(
                f"num_return_sequences={self.num_return_sequences} is more than num_beams="
                f"{self.num_beams}: a row has no more texts than beams"
            )

    def _require_ranges(self) -> None:
        # Asked as "not inside" rather than "outside": NaN is neither above nor below anything.
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"temperature={self.temperature} must be above 0 and finite; for the most likely "
                "token use do_sample=False"
            )
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}={value} must be above 0 and at most 1")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ValueError(
                f"repetition_penalty={self.repetition_penalty} must be above 0 and finite"
            )
        if self.early_stopping not in (True, False, "never"):
            raise ValueError(
                f"early_stopping={self.early_stopping!r} must be True, False or 'never'"
            )

    def _require_stops(self) -> None:
        if "" in self.strings or not all(map(len, self.stop_sequences)):
            raise ValueError(
                f"stop_strings={self.stop_strings!r} and stop_sequences={self.stop_sequences!r} "
                "must not hold an empty one, which would match everything"
            )

    def _refuse_what_has_no_effect(self) -> None:
        if self.do_sample and self.num_beams > 1:
            raise ValueError(
                f"do_sample=True with num_beams={self.num_beams}: beams search for the likeliest "
                "text and draw nothing; choose one of the two"
            )
        needed = {} if self.do_sample else {"do_sample=True": ONLY_WHEN_SAMPLING}
        if self.num_beams == 1:
            needed["num_beams above 1"] = ONLY_WITH_BEAMS
        for remedy, defaults in needed.items():
            for name, default in defaults.items():
                if getattr(self, name) != default:
                    raise ValueError(
                        f"{name}={getattr(self, name)} has no effect here: it needs {remedy}"
                    )
