"""Training a model from nothing: the toy world whose texts it learns."""

from mistral_edu.training.valley import Question
from mistral_edu.training.world import Story, corpus_text, stories

__all__ = ["Question", "Story", "corpus_text", "stories"]
