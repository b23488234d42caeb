"""Weights on disk: safetensors files, read checked and written whole.

Lesson: 11_weights.
"""

from mistral_edu.weights.named import load
from mistral_edu.weights.safetensors_files import WeightsError, load_weights, save_weights

__all__ = ["WeightsError", "load", "load_weights", "save_weights"]
