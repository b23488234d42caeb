"""MistralConfig: every number that fixes the architecture, in one object.

Source: the model documentation's `MistralConfig` and the released `config.json` files.
Lesson: 00_map_and_toolbox.

Conventions
    The defaults are the documentation's. The checkpoint that was released as Mistral-7B-v0.1
    differs in two of them (`rms_norm_eps` 1e-5, `max_position_embeddings` 32768), so ask for it
    by name: `MistralConfig.mistral_7b_v0_1()`.
    `sliding_window` counts the query's own position: W = 4096 means itself and 4095 before it.
    `sliding_window=None` means no window: every earlier token is visible.
    What may stand in a field is in `config_rules.py`, the file on disk in `config_file.py`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mistral_edu.config_file import CONFIG_FILE, read_config, write_config
from mistral_edu.config_rules import check_heads, check_together, check_types, settle_fields
from mistral_edu.config_tables import heads_pruned, labels_named

# What tells the releases apart: (vocab_size, rope_theta, sliding_window). Taking the constants of
# a later one for v0.1 raises no error, it only makes the text worse.
RELEASES = {
    "v0.1": (32000, 1e4, 4096),
    "v0.2": (32000, 1e6, None),
    "v0.3": (32768, 1e6, None),
}


class MistralConfig:
    """The architecture of one Mistral model.

    Args:
        vocab_size: V, the number of token ids.
        hidden_size: width of the residual stream.
        intermediate_size: width inside the feed-forward block.
        num_hidden_layers: L, the number of decoder layers.
        num_attention_heads: H, the number of query heads.
        num_key_value_heads: Hkv; H gives multi-head, 1 multi-query, between them grouped-query
            attention. 8 if left out; `None` means H.
        hidden_act: the feed-forward activation, by name or as a function (which cannot be saved).
        max_position_embeddings: the longest sequence the model is meant for, in tokens.
        initializer_range: standard deviation of freshly drawn weights.
        rms_norm_eps: added to the mean square inside RMSNorm.
        use_cache: whether forward returns its key/value cache by default.
        pad_token_id, bos_token_id, eos_token_id: special ids, or None; eos may be several.
        tie_word_embeddings: whether the LM head shares the embedding matrix.
        rope_theta: base of the rotary frequencies.
        sliding_window: W, keys visible to a query, itself included; None for no window.
        head_dim: D; None means hidden_size / num_attention_heads.
        attention_dropout: 0; anything else is refused, for nothing is dropped.
        output_attentions, output_hidden_states, return_dict: what forward does when it is not
            told (see `MistralModel.forward`).
        num_labels: rows of the classifier, 2 if left out or as many as `id2label` names.
        id2label, label2id: names of the labels, by index and back.
        problem_type: which loss the classifier takes; None goes by the labels.
        pruned_heads: heads that are gone, for each layer (see `prune_heads`).
        **extra: anything else; kept as attributes and written back by `to_dict`.

    Raises:
        ValueError: for values of the wrong type or out of range, and for values that cannot go
            together; the message names both.

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
        hidden_act: str | Callable = "silu",
        max_position_embeddings: int = 4096 * 32,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        use_cache: bool = True,
        pad_token_id: int | None = None,
        bos_token_id: int | None = 1,
        eos_token_id: int | list[int] | None = 2,
        tie_word_embeddings: bool = False,
        rope_theta: float = 10000.0,
        sliding_window: int | None = 4096,
        head_dim: int | None = None,
        attention_dropout: float = 0.0,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
        num_labels: int | None = None,
        id2label: Mapping | None = None,
        label2id: Mapping | None = None,
        problem_type: str | None = None,
        pruned_heads: Mapping | None = None,
        **extra: Any,
    ) -> None:
        shared = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        check_types(locals())
        check_heads(hidden_size, num_attention_heads, shared, head_dim)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = shared
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
        self.head_dim = hidden_size // num_attention_heads if head_dim is None else head_dim
        self.attention_dropout = attention_dropout
        self.output_attentions = output_attentions
        self.output_hidden_states = output_hidden_states
        self.return_dict = return_dict
        self.id2label = labels_named(num_labels, id2label)
        self.label2id = label2id
        self.num_labels = len(self.id2label) if self.id2label else num_labels or 2
        self.problem_type = problem_type
        self.pruned_heads = heads_pruned(pruned_heads, num_hidden_layers, num_attention_heads)
        check_together(self)
        self._keep(extra)

    def _keep(self, extra: dict[str, Any]) -> None:
        for name, value in extra.items():
            if name in ("rope_parameters", "rope_scaling"):
                raise ValueError(
                    f"{name}={value!r} is how files write it: give rope_theta here, or read the "
                    "file with MistralConfig.from_dict"
                )
            if hasattr(type(self), name):
                raise ValueError(f"{name!r} is a method of MistralConfig: name the field otherwise")
            setattr(self, name, value)

    @property
    def group_size(self) -> int:
        """G, the number of query heads that share one key/value head.

        >>> MistralConfig().group_size
        4
        """
        return self.num_attention_heads // self.num_key_value_heads

    @property
    def release(self) -> str | None:
        """Which release has this vocabulary, rotary base and window: "v0.1", "v0.2", "v0.3", None.

        >>> MistralConfig().release, MistralConfig(rope_theta=1e6).release
        ('v0.1', None)
        """
        own = (self.vocab_size, self.rope_theta, self.sliding_window)
        return next((name for name, values in RELEASES.items() if values == own), None)

    @classmethod
    def mistral_7b_v0_1(cls) -> "MistralConfig":
        """The values released with Mistral-7B-v0.1 (eps 1e-5, 32768 positions, window 4096).

        >>> MistralConfig.mistral_7b_v0_1().rms_norm_eps
        1e-05
        """
        return cls(rms_norm_eps=1e-5, max_position_embeddings=32768)

    def changed(self, **fields: Any) -> "MistralConfig":
        """A copy with other values in some fields, checked like any config.

        >>> MistralConfig().changed(sliding_window=None).release is None
        True
        """
        return type(self)(**{**self.to_dict(), **fields})

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
        return cls(**settle_fields(fields))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` into `folder`, whole or not at all.

        Raises:
            ValueError: for a value that a file cannot hold, such as a function.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     MistralConfig(hidden_size=512).save_pretrained(folder)
        ...     MistralConfig.from_pretrained(folder).hidden_size
        512
        """
        write_config(folder, {"model_type": "mistral", **self.to_dict()})

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "MistralConfig":
        """Read `config.json` from a folder; see `save_pretrained` for an example.

        Args:
            name: a folder, or "owner/name" on the hub.
            revision: on the hub, a branch, tag or commit.

        Raises:
            FileNotFoundError: if the folder has no `config.json`.
            HubError: if it is not here and the hub does not give it.
            ValueError: if the file is not JSON, describes another model, or holds a field that
                cannot be right; the message names the file.
        """
        from mistral_edu.weights.named import local_folder

        folder = local_folder(name, revision=revision, parts=["config"])
        fields = read_config(folder)
        try:
            return cls.from_dict(fields)
        except ValueError as error:
            raise ValueError(f"{folder / CONFIG_FILE}: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MistralConfig) and self.to_dict() == other.to_dict()

    def __repr__(self) -> str:
        return f"MistralConfig({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"
