"""Weights on disk: checkpoints read checked, mapped and whole, and written whole.

Lesson: 11_weights.
"""

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.named import load

__all__ = ["WeightsError", "load"]
