"""MistralConfig: every number that fixes the architecture, in one object.

Source: the model documentation's `MistralConfig` and the released `config.json`.
Lesson: 00_map_and_toolbox.

Conventions
    The defaults are the documentation's. The checkpoint that was released as Mistral-7B-v0.1
    differs in two of them (`rms_norm_eps` 1e-5, `max_position_embeddings` 32768), so ask for it
    by name: `MistralConfig.mistral_7b_v0_1()`.
    `sliding_window` counts the query's own position: W = 4096 means itself and 4095 before it.
    `sliding_window=None` means no window: every earlier token is visible.
"""

import json
import os
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"


class MistralConfig:
    """The architecture of one Mistral model.

    Args:
        vocab_size: V, the number of token ids.
        hidden_size: width of the residual stream.
        intermediate_size: width inside the feed-forward block.
        num_hidden_layers: L, the number of decoder layers.
        num_attention_heads: H, the number of query heads.
        num_key_value_heads: Hkv; H gives multi-head, 1 multi-query, between them grouped-query
            attention. `None` means H.
        hidden_act: name of the feed-forward activation.
        max_position_embeddings: the longest sequence the model is meant for, in tokens.
        initializer_range: standard deviation of freshly drawn weights.
        rms_norm_eps: added to the mean square inside RMSNorm.
        use_cache: whether forward returns its key/value cache by default.
        pad_token_id, bos_token_id, eos_token_id: special ids, or None.
        tie_word_embeddings: whether the LM head shares the embedding matrix.
        rope_theta: base of the rotary frequencies.
        sliding_window: W, keys visible to a query, itself included; None for no window.
        head_dim: D; None means hidden_size / num_attention_heads.
        **extra: anything else; kept as attributes and written back by `to_dict`.

    Raises:
        ValueError: for values that cannot go together; the message names both.

    >>> config = MistralConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    >>> config.head_dim, config.sliding_window
    (16, 4096)
    >>> MistralConfig(num_attention_heads=32, num_key_value_heads=5)
    Traceback (most recent call last):
    ...
    ValueError: num_attention_heads=32 is not a multiple of num_key_value_heads=5: every \
key/value head must serve the same number of query heads
    """

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 4096,
        intermediate_size: int = 14336,
        num_hidden_layers: int = 32,
        num_attention_heads: int = 32,
        num_key_value_heads: int | None = 8,
        hidden_act: str = "silu",
        max_position_embeddings: int = 4096 * 32,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        use_cache: bool = True,
        pad_token_id: int | None = None,
        bos_token_id: int | None = 1,
        eos_token_id: int | None = 2,
        tie_word_embeddings: bool = False,
        rope_theta: float = 10000.0,
        sliding_window: int | None = 4096,
        head_dim: int | None = None,
        **extra: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.use_cache = use_cache
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.tie_word_embeddings = tie_word_embeddings
        self.rope_theta = rope_theta
        self.sliding_window = sliding_window
        self._require_counts()
        self.head_dim = head_dim if head_dim is not None else hidden_size // num_attention_heads
        for name, value in extra.items():
            setattr(self, name, value)
        self._validate(head_dim_given=head_dim is not None)

    def _require_counts(self) -> None:
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
        for name in (*names, "num_attention_heads", "num_key_value_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def _validate(self, head_dim_given: bool) -> None:
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        if heads % shared:
            raise ValueError(
                f"num_attention_heads={heads} is not a multiple of num_key_value_heads={shared}: "
                "every key/value head must serve the same number of query heads"
            )
        if not head_dim_given and self.hidden_size % heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={heads}: "
                "change one of them or give head_dim"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(
                f"head_dim={self.head_dim} (hidden_size={self.hidden_size}, "
                f"num_attention_heads={heads}) must be even: rotary embedding turns pairs"
            )
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(
                f"sliding_window={self.sliding_window} must be at least 1 (a query sees itself), "
                "or None for no window"
            )
        if self.rope_theta <= 0:
            raise ValueError(f"rope_theta={self.rope_theta} must be positive")

    @property
    def group_size(self) -> int:
        """G, the number of query heads that share one key/value head.

        >>> MistralConfig().group_size
        4
        """
        return self.num_attention_heads // self.num_key_value_heads

    @classmethod
    def mistral_7b_v0_1(cls) -> "MistralConfig":
        """The values released with Mistral-7B-v0.1 (eps 1e-5, 32768 positions, window 4096).

        >>> MistralConfig.mistral_7b_v0_1().rms_norm_eps
        1e-05
        """
        return cls(rms_norm_eps=1e-5, max_position_embeddings=32768)

    def to_dict(self) -> dict[str, Any]:
        """All fields, extra ones included, as plain values.

        >>> MistralConfig(course="mistral_edu").to_dict()["course"]
        'mistral_edu'
        """
        return dict(vars(self))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "MistralConfig":
        """Build a config from the fields of a `config.json`.

        Reads both generations of the file: `rope_theta` at the top level, or nested in
        `rope_parameters`. A file of another model family is refused.

        >>> MistralConfig.from_dict({"rope_parameters": {"rope_theta": 5e5}}).rope_theta
        500000.0
        """
        fields = dict(fields)
        family = fields.pop("model_type", "mistral")
        if family != "mistral":
            raise ValueError(
                f"model_type={family!r} is not 'mistral': this library implements Mistral only"
            )
        nested = fields.pop("rope_parameters", None) or {}
        if nested.get("rope_type", "default") != "default":
            raise ValueError(
                f"rope_type={nested['rope_type']!r} is not 'default': Mistral scales no positions"
            )
        if "rope_theta" in nested:
            fields["rope_theta"] = nested["rope_theta"]
        return cls(**fields)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` into `folder`, whole or not at all.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     MistralConfig(hidden_size=512).save_pretrained(folder)
        ...     MistralConfig.from_pretrained(folder).hidden_size
        512
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"model_type": "mistral", **self.to_dict()}, indent=2, sort_keys=True)
        unfinished = folder / f".{CONFIG_FILE}.{os.getpid()}"
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(folder / CONFIG_FILE)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "MistralConfig":
        """Read `config.json` from a folder; see `save_pretrained` for an example.

        Args:
            name: a folder, or "owner/name" on the hub.
            revision: on the hub, a branch, tag or commit.

        Raises:
            FileNotFoundError: if the folder has no `config.json`.
            HubError: if it is not here and the hub does not give it.
            ValueError: if the file is not JSON or describes another model.
        """
        from mistral_edu.weights.named import local_folder

        folder = local_folder(name, revision=revision, parts=["config"])
        path = folder / CONFIG_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: give a folder that save_pretrained wrote"
            )
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}): save the model again") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{path} holds a {type(fields).__name__}, expected a JSON object")
        return cls.from_dict(fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MistralConfig) and self.to_dict() == other.to_dict()

    def __repr__(self) -> str:
        return f"MistralConfig({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"
