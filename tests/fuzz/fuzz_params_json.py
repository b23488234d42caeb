"""The reader of params.json: a config that can be written and read again, or its own error."""

import json
import tempfile
from pathlib import Path

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.params_json import config_from_params, params_from_config, read_params
from tests.fuzz.harness import main, put

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz_params_json_"))
SMALL = {"dim": 64, "n_layers": 2, "head_dim": 16, "hidden_dim": 128, "n_heads": 4, "n_kv_heads": 2}
SEEDS = [
    json.dumps({**SMALL, "norm_eps": 1e-5, "sliding_window": 8, "vocab_size": 100}).encode(),
    json.dumps({**SMALL, "norm_eps": 1e-5, "ragged_attention": "8", "vocab_size": -1}).encode(),
    json.dumps({**SMALL, "norm_eps": 1, "rope_theta": 1e6, "moe": None, "lora": {}}).encode(),
    json.dumps({**SMALL, "norm_eps": 1e-5, "tied_embeddings": True, "nested": [[{}]]}).encode(),
    json.dumps({**SMALL, "max_position_embeddings": 9, "model_type": "transformer"}).encode(),
    b'{"dim": 1e999}',
    b"[" * 2000,
    b"{}",
]


def check(data: bytes) -> None:
    """What is accepted is a whole config, which comes back from the file that we would write."""
    put(FOLDER / "params.json", data)
    try:
        config = config_from_params(read_params(FOLDER), vocab_size=50)
    except WeightsError:
        return
    assert config_from_params(params_from_config(config)) == config, config


if __name__ == "__main__":
    main(check, seeds=SEEDS)
