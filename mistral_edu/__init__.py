"""mistral_edu: build Mistral-7B byte by byte, and run it.

The modules are one concept each and read in the order of the lessons; this page names what most
programs need. Nothing here imports plotting, notebook or download code.
"""

from mistral_edu.config import MistralConfig
from mistral_edu.generation import GenerationConfig
from mistral_edu.heads import MistralForCausalLM, MistralForSequenceClassification
from mistral_edu.model import MistralModel
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.weights import load

__all__ = [
    "GenerationConfig",
    "MistralConfig",
    "MistralForCausalLM",
    "MistralForSequenceClassification",
    "MistralModel",
    "MistralTokenizer",
    "RollingCache",
    "load",
]
