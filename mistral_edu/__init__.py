"""mistral_edu: build Mistral-7B byte by byte, and run it.

The modules are one concept each and read in the order of the lessons; this page names what most
programs need. Nothing here imports plotting, notebook or download code. A name is imported when it
is first asked for: PyTorch takes a second, and `mistral-edu --help` does not need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
PLACES = {
    "GenerationConfig": "generation",
    "MistralConfig": "config",
    "MistralForCausalLM": "heads",
    "MistralForSequenceClassification": "heads",
    "MistralModel": "model",
    "MistralTokenizer": "tokenizer",
    "RollingCache": "rolling_cache",
    "load": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *PLACES]
