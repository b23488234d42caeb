"""The eighteen lessons by name, and the exercises each brings along.

A lesson's exercises are in a module beside this one, `lesson_08.py`, in a tuple called EXERCISES.
Modules are found by that name; a lesson without one simply has no exercises yet. A module is
imported when one of its exercises is first asked for, so lesson 00 does not pay for lesson 14.
"""

import difflib
import importlib
import importlib.util
from dataclasses import dataclass

from mistral_edu.course.exercise import Exercise


@dataclass(frozen=True)
class Lesson:
    """A lesson's number, the stem of its notebook and its title.

    >>> Lesson("08", "08_rolling_cache", "Rolling cache").notebook
    '08_rolling_cache.ipynb'
    """

    number: str
    stem: str
    title: str

    @property
    def notebook(self) -> str:
        """The file name of the lesson's notebook."""
        return self.stem + ".ipynb"


LESSONS: dict[str, Lesson] = {
    stem[:2]: Lesson(stem[:2], stem, title)
    for stem, title in {
        "00_map_and_toolbox": "Map and toolbox",
        "01_byte_fallback_bpe": "Byte-fallback BPE",
        "02_norm_and_feed_forward": "Norm and feed-forward",
        "03_rotary_positions": "Rotary positions",
        "04_masks_from_positions": "Masks from positions",
        "05_grouped_query_attention": "Grouped-query attention",
        "06_sliding_window": "Sliding window",
        "07_kv_cache": "KV cache",
        "08_rolling_cache": "Rolling cache",
        "09_the_full_model": "The full model",
        "10_heads_and_training": "Heads and training",
        "11_weights": "Weights",
        "12_generation_and_chat": "Generation and chat",
        "13_flash_attention": "Flash attention",
        "14_the_full_7b": "The full 7B",
        "15_long_context": "Long context",
        "16_beyond_one_machine": "Beyond one machine",
        "17_debugging_clinic": "Debugging clinic",
    }.items()
}


class UnknownExercise(KeyError):
    """There is no exercise of that name; the text lists near ones.

    >>> print(UnknownExercise("no exercise '08.slt'"))
    no exercise '08.slt'
    """

    def __str__(self) -> str:
        return str(self.args[0])


def exercises(lesson: str) -> tuple[Exercise, ...]:
    """The exercises of one lesson, in the order in which its notebook shows them.

    Args:
        lesson: two digits, "00" to "17".

    Returns:
        Its exercises; empty when the lesson has none yet.

    >>> exercises("42")
    ()
    """
    name = f"mistral_edu.course.lesson_{lesson}"
    if importlib.util.find_spec(name) is None:
        return ()
    return importlib.import_module(name).EXERCISES


def find(id: str) -> Exercise:
    """The exercise called `id`.

    Args:
        id: lesson number, a dot and a word, such as "08.slot".

    Returns:
        The exercise.

    Raises:
        UnknownExercise: when no lesson has it; the text names the closest ids of that lesson.

    >>> find("42.nothing")
    Traceback (most recent call last):
    mistral_edu.course.registry.UnknownExercise: no exercise '42.nothing'; lesson 42 has none
    """
    known = {exercise.id: exercise for exercise in exercises(id[:2])}
    if id not in known:
        near = difflib.get_close_matches(id, known) or list(known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"lesson {id[:2]} has none"
        raise UnknownExercise(f"no exercise {id!r}; {hint}")
    return known[id]
