"""A folder that holds a model, in whichever layout.

    Hugging Face   config.json   model.safetensors, or an index and shards
    original       params.json   consolidated.00.pth or consolidated*.safetensors

Lesson: 11_weights.

Conventions
    The files say where the weights are; the tensors' names say in which layout they are. So a file
    that was converted before, whatever it is called, is not converted again.
    A folder of the hub may hold both layouts; Hugging Face's is read unless the other is asked for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mistral_edu.config import MistralConfig
from mistral_edu.weights.absent import why_unreadable
from mistral_edu.weights.checkpoint import INDEX_FILE, SINGLE_FILE
from mistral_edu.weights.layouts import InLayout
from mistral_edu.weights.names import Layout, layout_of
from mistral_edu.weights.original import open_original, weight_files
from mistral_edu.weights.sources import open_safetensors

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource


@dataclass(frozen=True)
class ModelFolder:
    """What a folder holds: the config, the tensors as stored, and the layout they are stored in."""

    path: Path
    config: MistralConfig
    source: "TensorSource"
    layout: Layout

    def read_as(self, layout: Layout) -> "TensorSource":
        """The tensors as `layout` names and orders them.

        Raises:
            WeightsError: if they are not those of the config.
        """
        return InLayout(self.source, self.config, layout)


def open_model(folder: str | Path) -> "tuple[MistralConfig, TensorSource]":
    """The config and the tensors, under Hugging Face's names, of a folder of either layout.

    What is in the Hugging Face layout may be any model, a classifier for example; it is held
    against the model that it is loaded into. Raises as `open_model_folder` does.

    >>> from mistral_edu.paths import data_dir
    >>> open_model(data_dir() / "tiny")[0].vocab_size
    2048
    """
    found = open_model_folder(folder)
    stored_so = found.layout == "hugging-face"
    return found.config, found.source if stored_so else found.read_as("hugging-face")


def layouts_in(folder: str | Path) -> list[Layout]:
    """The layouts whose files of weights a folder holds, Hugging Face's first.

    >>> from mistral_edu.paths import data_dir
    >>> layouts_in(data_dir() / "tiny")
    ['hugging-face']
    """
    folder = Path(folder)
    found: list[Layout] = []
    if (folder / SINGLE_FILE).exists() or (folder / INDEX_FILE).exists():
        found.append("hugging-face")
    if folder.is_dir() and weight_files(folder):
        found.append("original")
    return found


def open_model_folder(folder: str | Path, prefer: Layout = "hugging-face") -> ModelFolder:
    """Check a folder's config and the headers of its weights; no tensor is read yet.

    Args:
        folder: holds a language model in either layout, or in both.
        prefer: which one to read if there are both.

    Raises:
        FileNotFoundError: if it holds no model.
        WeightsError: if a file is damaged or hostile.

    >>> from mistral_edu.paths import data_dir
    >>> open_model_folder(data_dir() / "tiny").layout
    'hugging-face'
    """
    folder = Path(folder)
    present = layouts_in(folder)
    if not present:
        raise FileNotFoundError(why_unreadable(folder))
    chosen = prefer if prefer in present else present[0]
    if chosen == "original":
        config, source = open_original(folder)
    else:
        config, source = MistralConfig.from_pretrained(folder), open_safetensors(folder)
    return ModelFolder(folder, config, source, layout_of(source.names()))
