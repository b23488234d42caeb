"""What every model class shares: initial weights, embeddings, loading and saving.

Source: the model documentation's "generic methods".
Lesson: 11_weights.

Conventions
    Weights are drawn from a normal distribution of standard deviation `initializer_range`
    (the documentation says truncated; the implementation it documents draws plain), norms are 1.
    Reading and writing files is the business of `mistral_edu.weights`, imported when needed.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mistral_edu.config import MistralConfig

Model = TypeVar("Model", bound="PretrainedModel")


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

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding table, (V, hidden)."""
        decoder: Any = getattr(self, "model", self)
        return decoder.embed_tokens

    def set_input_embeddings(self, table: nn.Embedding) -> None:
        """Replace the token embedding table."""
        getattr(self, "model", self).embed_tokens = table

    def tie_weights(self) -> None:
        """Let the LM head share the embedding matrix, if the config asks for it."""
        head = getattr(self, "lm_head", None)
        if head is not None and self.config.tie_word_embeddings:
            head.weight = self.get_input_embeddings().weight

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
            ValueError: see `open_model` and `load_weights`.
        """
        from mistral_edu.weights.model_folder import open_model
        from mistral_edu.weights.model_weights import load_weights, require_plausible
        from mistral_edu.weights.named import local_folder
        from mistral_edu.weights.shapes_only import shapes_only

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
