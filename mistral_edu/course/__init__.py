"""The course's side of the library: exercises, checks, hints, solutions, progress.

A lesson begins with

    from mistral_edu.course import check, hint, progress, setup, show_source, solution

and needs nothing else from here. Exercises of lesson NN are in `lesson_NN.py`.
"""

from mistral_edu.course.commands import check, hint, progress, solution
from mistral_edu.course.notebook import setup, show_source

__all__ = ["check", "hint", "progress", "setup", "show_source", "solution"]
