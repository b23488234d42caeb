"""The same model in `transformers`: the oracle for everything that `transformers` defines."""

import transformers

from mistral_edu import MistralForCausalLM


def twin(model: MistralForCausalLM) -> transformers.MistralForCausalLM:
    """`transformers`' model with our weights, with eager attention."""
    config = transformers.MistralConfig(**model.config.to_dict(), attn_implementation="eager")
    other = transformers.MistralForCausalLM(config).eval()
    other.load_state_dict(model.state_dict())
    # Special ids are given call by call; its own defaults would add rules of their own.
    other.generation_config = transformers.GenerationConfig()
    return other
