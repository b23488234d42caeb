"""The reader of `config.json`, and building a model of what it says beside small weights."""

import json
import tempfile
from pathlib import Path

from mistral_edu import MistralConfig, MistralForCausalLM
from tests.fuzz.harness import main, put

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz_config_"))
FIELDS = {
    "model_type": "mistral",
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "sliding_window": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}
MODEL = MistralForCausalLM(MistralConfig.from_dict(FIELDS))


def changed(**fields: object) -> bytes:
    """A config file with some fields replaced."""
    return json.dumps({**FIELDS, **fields}).encode()


SEEDS = [
    changed(),
    changed(head_dim=4, tie_word_embeddings=True, pad_token_id=0),
    changed(rope_parameters={"rope_theta": 1e6, "rope_type": "default"}),
    changed(num_hidden_layers=10**12),
    changed(vocab_size=2**40, hidden_size=2**40),
    changed(sliding_window=None, num_key_value_heads=None),
    changed(hidden_act="gelu", rms_norm_eps="1e-5", to_dict=1),
    b"[1, 2]",
]


def check(data: bytes) -> None:
    """A config is refused with a ValueError, or the model is loaded or refused with one."""
    put(FOLDER / "config.json", data)
    try:
        config = MistralConfig.from_pretrained(FOLDER)
        assert MistralConfig.from_dict(config.to_dict()) == config
        MistralForCausalLM.from_pretrained(FOLDER)
    except ValueError:
        return


MODEL.save_pretrained(FOLDER)

if __name__ == "__main__":
    main(check, seeds=SEEDS)
