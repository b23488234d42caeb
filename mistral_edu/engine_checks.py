"""What the engine refuses: misuse that would otherwise end in a wrong text.

Lesson: 14_the_full_7b.

Conventions
    Asked on the CPU, of what is known there. Ids that lie on a GPU are not looked at in a step,
    for that would be to wait for it.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from mistral_edu.engine_kernel import name_of
from mistral_edu.generation_config import GenerationConfig
from mistral_edu.heads import MistralForCausalLM


def require_fit(model: Any, **sizes: Any) -> None:
    """Refuse what no engine can be made of.

    Args:
        model: what should be a language model.
        sizes: what should be 1 or more, or None to leave the choice to the engine.

    Raises:
        ValueError: for another model or size.

    >>> require_fit("tiny")
    Traceback (most recent call last):
    ...
    ValueError: model is a str, expected a MistralForCausalLM: load("tiny")[0], for example
    """
    if not isinstance(model, MistralForCausalLM):
        raise ValueError(
            f'model is a {type(model).__name__}, expected a MistralForCausalLM: load("tiny")[0], '
            "for example"
        )
    for name, size in sizes.items():
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"{name}={size!r} must be a whole number, 1 or more")


def require_rows(rows: int, batch_size: int) -> None:
    """Refuse another number of rows than the engine's.

    Raises:
        ValueError: for another number.
    """
    if rows != batch_size:
        raise ValueError(
            f"input_ids has {rows} rows, but the engine was made for {batch_size}: give it as "
            f"many, or make another with batch_size={rows}"
        )


def require_column(ids: Any, batch_size: int, vocab_size: int) -> None:
    """Refuse anything but one id for each row; on a GPU they are not looked at.

    Raises:
        ValueError: for numbers that are no ids, another shape or another number of rows.

    >>> require_column([5], batch_size=1, vocab_size=9)
    Traceback (most recent call last):
    ...
    ValueError: ids is [5], expected one whole number for each row: torch.tensor([5]), for example
    """
    is_tensor = isinstance(ids, Tensor)
    if not is_tensor or ids.is_floating_point() or ids.dtype == torch.bool or ids.dim() != 1:
        kind = f"{name_of(ids.dtype)} of shape {tuple(ids.shape)}" if is_tensor else repr(ids)
        raise ValueError(
            f"ids is {kind}, expected one whole number for each row: torch.tensor([5]), for example"
        )
    require_rows(len(ids), batch_size)
    if ids.device.type == "cpu":
        require_vocabulary(ids, vocab_size)


def require_vocabulary(ids: Tensor, vocab_size: int) -> None:
    """Refuse ids that are outside the vocabulary; waits for the device that they are on.

    Raises:
        ValueError: for such an id.
    """
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= vocab_size:
        raise ValueError(
            f"the ids range from {least} to {most}, expected 0 to {vocab_size - 1}: encode the "
            "text with this model's own tokenizer"
        )


def require_no_beams(config: GenerationConfig) -> None:
    """Refuse to follow several texts for each row.

    Raises:
        ValueError: for num_beams above 1.
    """
    if config.num_beams > 1:
        raise ValueError(
            f"num_beams={config.num_beams}: the engine follows one text for each row; use "
            "model.generate, or num_beams=1"
        )


class Home:
    """Where a model's weights lie, to notice if it is given others or they are moved.

    >>> linear = nn.Linear(2, 2)
    >>> home = Home(linear)
    >>> home.require()
    >>> linear.double() and home.require()
    Traceback (most recent call last):
    ...
    ValueError: the model was moved, cast or given other weights after the engine was made of it, \
and the engine has the old ones: make another Engine(model)
    """

    def __init__(self, model: nn.Module) -> None:
        # The engine needs the weights, not the model: it must not keep it in memory.
        self._model = weakref.ref(model)
        self._addresses = _addresses(model)

    def require(self) -> None:
        """Refuse to go on if the model has other weights by now; if it is gone, it has not.

        Raises:
            ValueError: if it has.
        """
        model = self._model()
        if model is not None and _addresses(model) != self._addresses:
            raise ValueError(
                "the model was moved, cast or given other weights after the engine was made of "
                "it, and the engine has the old ones: make another Engine(model)"
            )


class Moves:
    """Counts how often texts were begun or continued, by one thread at a time.

    >>> moves = Moves()
    >>> with moves.one():
    ...     moves.count
    1
    >>> moves.require_whole()
    """

    def __init__(self) -> None:
        self.count, self._whole, self._lock = 0, True, threading.RLock()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around several moves between which no other thread may make one.

        Raises:
            RuntimeError: if another thread is at it.
        """
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "the engine is at work in another thread: make an Engine for each thread, or let "
                "one wait for the other"
            )
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around what begins or continues texts.

        Raises:
            RuntimeError: if another thread is at it.
        """
        with self.alone():
            self.count += 1
            self._whole = False
            yield
            self._whole = True  # not if it was left by an error or an interrupt

    def require_whole(self) -> None:
        """Refuse to continue what the last move did not end.

        Raises:
            RuntimeError: after a move that failed or was interrupted.
        """
        if not self._whole:
            raise RuntimeError(
                "the last step did not end, so what the cache holds is not known: begin again with "
                "prefill or generate"
            )


def _addresses(model: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in chain(model.parameters(), model.buffers())]
