"""What every model class shares: initial weights, embeddings, loading and saving.

Source: the model documentation's "generic methods".
Lesson: 11_weights.

Conventions
    Weights are drawn from a normal distribution of standard deviation `initializer_range`
    (the documentation says truncated; the implementation it documents draws plain), norms are 1.
    Reading and writing files is the business of `mistral_edu.weights`, imported when needed.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mistral_edu.config import MistralConfig
from mistral_edu.devices import require_device

Model = TypeVar("Model", bound="PretrainedModel")


def _require_same_shape(what: str, given: Tensor, own: Tensor) -> None:
    if given.shape != own.shape:
        raise ValueError(
            f"{what} has shape {tuple(given.shape)}, expected {tuple(own.shape)}: change the "
            "number of tokens with resize_token_embeddings"
        )


class PretrainedModel(nn.Module):
    """Base of `MistralModel` and the models with a head."""

    def __init__(self, config: MistralConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return next(self.parameters()).dtype

    def num_parameters(self) -> int:
        """How many numbers the model has learned; shared ones count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def initialise_weights(self, part: nn.Module) -> None:
        """Draw fresh weights for the linear layers and embeddings of `part`."""
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Embedding) and self.config.pad_token_id is not None:
                with torch.no_grad():
                    module.weight[self.config.pad_token_id].zero_()

    def choice(self, name: str, given: bool | None) -> bool:
        """What forward does about `name`: what the caller gave, or else what the config says."""
        return getattr(self.config, name) if given is None else given

    def _decoder(self) -> Any:
        return getattr(self, "model", self)

    def _configure(self, config: MistralConfig) -> None:
        # A new object in every part: another model may have been built from the old one.
        for part in self.modules():
            if isinstance(part, PretrainedModel):
                part.config = config

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding table, (V, hidden)."""
        return self._decoder().embed_tokens

    def set_input_embeddings(self, table: nn.Embedding) -> None:
        """Replace the token embedding table by another of the same shape; a tied head follows.

        Raises:
            ValueError: for another shape; `resize_token_embeddings` changes the vocabulary.
        """
        _require_same_shape("the table", table.weight, self.get_input_embeddings().weight)
        self._decoder().embed_tokens = table
        self.tie_weights()

    def get_output_embeddings(self) -> nn.Linear | None:
        """The LM head, or None for a model without one."""
        return getattr(self, "lm_head", None)

    def set_output_embeddings(self, head: nn.Linear) -> None:
        """Replace the LM head by another of the same shape.

        Raises:
            ValueError: for another shape, for a model without an LM head, and for a tied head.
        """
        own = self.get_output_embeddings()
        if own is None:
            raise ValueError(f"{type(self).__name__} has no LM head: take MistralForCausalLM")
        if self.config.tie_word_embeddings:
            raise ValueError(
                "tie_word_embeddings=True: the head is the embedding table, so replace that with "
                "set_input_embeddings"
            )
        _require_same_shape("the head", head.weight, own.weight)
        self.lm_head = head

    def tie_weights(self) -> None:
        """Let the LM head share the embedding matrix, if the config asks for it."""
        head = self.get_output_embeddings()
        if head is not None and self.config.tie_word_embeddings:
            head.weight = self.get_input_embeddings().weight

    def resize_token_embeddings(self, size: int | None = None) -> nn.Embedding:
        """Change the vocabulary to `size` tokens; return the embedding table.

        The first rows of table and head stay, further ones are drawn as for a fresh model. Call it
        on the whole model, not on its `.model`: the head must follow.

        Raises:
            ValueError: for a size below 1, or one that leaves out the config's pad id.
        """
        table, head = self.get_input_embeddings(), self.get_output_embeddings()
        if size is not None and size != self.config.vocab_size:
            self._configure(self.config.changed(vocab_size=size))
            table.weight, table.num_embeddings = self._with_rows(table.weight, size), size
            if head is not None:
                head.weight, head.out_features = self._with_rows(head.weight, size), size
            self.tie_weights()
        return table

    @torch.no_grad()
    def _with_rows(self, weight: Tensor, size: int) -> nn.Parameter:
        rows = torch.empty(size, weight.shape[1], dtype=weight.dtype, device=weight.device)
        rows.normal_(std=self.config.initializer_range)
        rows[: len(weight)] = weight[:size]
        return nn.Parameter(rows, requires_grad=weight.requires_grad)

    def prune_heads(self, heads: Mapping[int, Iterable[int]]) -> None:
        """Remove query heads for good: `{layer: heads}`, each by its number in the full model.

        The heads left keep their own key/value head, so a key/value head may serve fewer queries
        than another, or none; keys and values stay. Equal to a `head_mask` of zeros. The config
        remembers, so that a saved model loads again (in this library).

        Raises:
            ValueError: for layers or heads that do not exist, and if a layer would keep no head.
        """
        gone = {layer: [*self.config.pruned_heads.get(layer, ()), *heads[layer]] for layer in heads}
        self._configure(self.config.changed(pruned_heads={**self.config.pruned_heads, **gone}))
        for layer, pruned in self.config.pruned_heads.items():
            self._decoder().layers[layer].self_attn.prune(pruned)

    def gradient_checkpointing_enable(self) -> None:
        """In training, keep only what enters each layer and compute the rest again for gradients.

        Loss and gradients stay the same; memory falls, time rises by about a third. No cache is
        made meanwhile.
        """
        self._decoder().gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep every intermediate result again."""
        self._decoder().gradient_checkpointing = False

    @classmethod
    def from_pretrained(
        cls: type[Model],
        name: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        attention: str = "auto",
        revision: str | None = None,
    ) -> Model:
        """Load a model that `save_pretrained` (or Hugging Face) wrote, in evaluation mode.

        Args:
            name: a folder with config.json and model.safetensors (or shards and their index), or
                with Mistral's own files, or "owner/name" on the hub.
            dtype: cast weights to this; None keeps the file's.
            device: where to put them.
            attention: a backend's name.
            revision: on the hub, a branch, tag or commit.

        Raises:
            FileNotFoundError, HubError: see `weights.named.local_folder`.
            ValueError: see `require_device`, `open_model` and `load_weights`.
        """
        from mistral_edu.weights.model_folder import open_model
        from mistral_edu.weights.model_weights import load_weights, require_plausible
        from mistral_edu.weights.named import local_folder
        from mistral_edu.weights.shapes_only import shapes_only

        require_device(device)
        folder = local_folder(name, revision=revision, parts=["config", "weights"])
        config, source = open_model(folder)
        require_plausible(config, source)
        with shapes_only():
            model = cls(config, attention)  # type: ignore[call-arg]
        load_weights(model, source, dtype=dtype, device=device)
        return model.eval()

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        max_shard_bytes: int = 5 * 10**9,
    ) -> None:
        """Write config.json and the weights, together or not at all.

        Args:
            folder: made if absent.
            dtype: cast weights to this first; None keeps theirs.
            max_shard_bytes: more than this is split over several files, with an index.
        """
        from mistral_edu.weights.model_weights import save_model

        save_model(self, folder, dtype=dtype, max_shard_bytes=max_shard_bytes)
