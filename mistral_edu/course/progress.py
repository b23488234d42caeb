"""What you have done so far: a journal on this machine, one line per event.

Nothing is sent anywhere. The journal is only ever appended to, one whole line in one write, so two
open notebooks cannot overwrite each other, and a crash can at worst leave one torn line, which is
skipped, counted and left in place. The file is `progress.jsonl` in $MISTRAL_EDU_HOME, or else in
the user's data folder.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import platformdirs

from mistral_edu.course.verdict import Outcome

HINT, SOLUTION = "hint", "solution"


def home() -> Path:
    """The folder that holds the learner's own files.

    Returns:
        $MISTRAL_EDU_HOME where it is set, otherwise the platform's user data folder.

    >>> home().is_absolute()
    True
    """
    chosen = os.environ.get("MISTRAL_EDU_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_data_path("mistral_edu", appauthor=False)


@dataclass(frozen=True)
class Standing:
    """How far one exercise has come.

    Args:
        outcome: the best verdict so far.
        attempts: how many checks said correct or not yet.
        hints: how many times a hint was asked for.
        solution_seen: whether the solution was opened.

    >>> Standing().outcome.value
    'not attempted'
    """

    outcome: Outcome = Outcome.NOT_ATTEMPTED
    attempts: int = 0
    hints: int = 0
    solution_seen: bool = False

    def after(self, event: str) -> "Standing":
        """The standing once `event` has happened too.

        Args:
            event: "correct", "not yet", "hint" or "solution"; anything else changes nothing.

        >>> Standing().after("correct").after("not yet").outcome.value
        'correct'
        """
        outcome, attempts = self.outcome, self.attempts
        if event in (Outcome.CORRECT.value, Outcome.NOT_YET.value):
            attempts += 1
            outcome = outcome if outcome is Outcome.CORRECT else Outcome(event)
        return Standing(
            outcome, attempts, self.hints + (event == HINT), self.solution_seen or event == SOLUTION
        )


@dataclass(frozen=True)
class Journal:
    """The journal file, and what it says.

    Args:
        path: the file; it and its folder are made when the first event is written.

    >>> Journal(Path("no-such-folder/progress.jsonl")).read()
    ({}, '')
    """

    path: Path

    def add(self, exercise: str, event: str) -> str:
        """Append one event.

        Args:
            exercise: the exercise's id.
            event: what happened to it.

        Returns:
            An empty string, or one line saying why it could not be saved; losing a note of
            progress is no reason to stop a lesson.
        """
        line = json.dumps({"exercise": exercise, "event": event}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                file.write((self._end_of_torn_line(file) + line).encode())
        except OSError as error:
            return self._trouble("saved", error)
        return ""

    def read(self) -> tuple[dict[str, Standing], str]:
        """Read every event.

        Returns:
            The standing of each exercise met so far, and a note that is empty when all went
            well. Lines that cannot be understood are skipped, and stay in the file.
        """
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}, ""
        except OSError as error:
            return {}, self._trouble("read", error)
        standings: dict[str, Standing] = {}
        damaged = 0
        for line in filter(str.strip, lines):
            try:
                entry = json.loads(line)
                exercise, event = str(entry["exercise"]), str(entry["event"])
            except (ValueError, TypeError, KeyError):
                damaged += 1
                continue
            standings[exercise] = standings.get(exercise, Standing()).after(event)
        return standings, self._damage(damaged)

    def _end_of_torn_line(self, file: BinaryIO) -> str:
        """A line break where the last write was cut off, so that the next line stays whole."""
        if file.seek(0, os.SEEK_END) == 0:
            return ""
        file.seek(-1, os.SEEK_END)
        return "" if file.read(1) == b"\n" else "\n"

    def _damage(self, count: int) -> str:
        if not count:
            return ""
        lines = "1 line" if count == 1 else f"{count} lines"
        return f"{lines} of {self.path} could not be read; skipped, and left as it was."

    def _trouble(self, verb: str, error: OSError) -> str:
        reason = error.strerror or type(error).__name__
        advice = "set MISTRAL_EDU_HOME to a folder you can write to"
        return f"progress could not be {verb} ({self.path}: {reason}); {advice}."


def journal() -> Journal:
    """The learner's journal on this machine.

    >>> journal().path.name
    'progress.jsonl'
    """
    return Journal(home() / "progress.jsonl")
