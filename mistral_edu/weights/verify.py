"""Is this the released model? Every published figure, held against a checkpoint.

    verify(path) → one line per figure: name, expected, found, tolerance, pass · fail · skipped

Lines about the files come first (`verify_structure`), then those that need the model to run
(`verify_behaviour`). The figures are data (`published`), so the same code verifies a small model
against a table of its own: that is how the tests plant faults and see them named.

Lesson: 11_weights.

Conventions
    On a GPU the weights are float16, the type the figures were published for. On a CPU they keep
    the file's type and stay mapped: a machine with less memory than the weights is slow, not stuck.
    What this machine cannot run is skipped with the reason, never passed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from mistral_edu.devices import require_device
from mistral_edu.weights.layouts import misfits
from mistral_edu.weights.model_folder import ModelFolder, open_model_folder
from mistral_edu.weights.named import local_folder
from mistral_edu.weights.published import MISTRAL_7B_V0_1, Published
from mistral_edu.weights.verify_behaviour import behaviour
from mistral_edu.weights.verify_structure import FAIL, SKIPPED, Line, structure

if TYPE_CHECKING:
    from mistral_edu.tokenizer import MistralTokenizer

GB = 10**9
ROOM = 1.15  # the cache, the scores and the libraries, beside the weights
SLOW = "it takes many minutes without a GPU; ask for it with --long"


def verify(
    path: str | Path,
    *,
    published: Published = MISTRAL_7B_V0_1,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    attention: str = "auto",
    long: bool = False,
) -> Iterator[Line]:
    """Hold a checkpoint against the published figures, one line after the other.

    Args:
        path: a folder in either layout, or "owner/name" on the hub.
        published: the figures.
        dtype: of the weights while they run; None takes float16 on a GPU, else the file's.
        device: None takes the GPU if there is one.
        attention: a backend's name.
        long: also run prompts longer than the window where there is no GPU.

    Raises:
        FileNotFoundError: if there is no model.
        ValueError: for a device that PyTorch cannot use here.
        WeightsError: if a file is damaged or hostile.

    >>> lines = verify("tiny")
    >>> line = next(lines)
    >>> line.name, line.expected, line.found, line.status
    ('tensors', '291', '56', 'fail')
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    require_device(device)
    found = open_model_folder(local_folder(path))
    yield from structure(found, published)
    wrong = misfits(found.source, found.config)
    dtype = dtype or (torch.float16 if device.startswith("cuda") else _type_of(found))
    reason = (
        f"its weights do not fit its own config ({wrong[0]})"
        if wrong
        else too_little_memory(found, dtype, device)
    )
    if reason is not None:
        yield Line("logits and texts", "as published", "-", SKIPPED, why=reason)
        return
    yield from _run(found, published, dtype, device, attention, long)


def _run(
    found: ModelFolder,
    published: Published,
    dtype: torch.dtype,
    device: str,
    attention: str,
    long: bool,
) -> Iterator[Line]:
    from mistral_edu.heads import MistralForCausalLM

    model = MistralForCausalLM.from_pretrained(
        found.path, dtype=dtype, device=device, attention=attention
    )
    if max(published.ids) >= model.config.vocab_size:
        why = f"the published ids go to {max(published.ids)}, its vocabulary is smaller"
        yield Line("logits and texts", "as published", "-", SKIPPED, why=why)
        return
    why_not_long = None if long or model.device.type != "cpu" else SLOW
    yield from behaviour(model, _tokenizer(found.path), published, why_not_long)


def _tokenizer(folder: Path) -> "MistralTokenizer":
    """The folder's tokenizer, or the one that was released, from the mistral-common package."""
    from mistral_edu.tokenizer import MistralTokenizer

    paths = [path for path in sorted(folder.glob("tokenizer.model*")) if path.is_file()]
    return MistralTokenizer.from_file(paths[0]) if paths else MistralTokenizer.mistral_v1()


def _type_of(found: ModelFolder) -> torch.dtype:
    return found.source.dtype(found.source.names()[0])


def too_little_memory(found: ModelFolder, dtype: torch.dtype, device: str) -> str | None:
    """Why the model cannot be held on `device`, or None if it can."""
    source = found.source
    types = {source.dtype(name) for name in source.names()}
    if device == "cpu" and types == {dtype}:
        return None  # mapped: the system reads and drops pages as it needs
    numbers = sum(torch.Size(source.shape(name)).numel() for name in source.names())
    need = int(numbers * dtype.itemsize * ROOM)
    if device.startswith("cuda"):
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if need <= free:
        return None
    return f"it needs {need / GB:.1f} GB on {device}, and {free / GB:.1f} GB are free"


def exit_status(lines: list[Line]) -> int:
    """1 if any line failed, else 0.

    >>> exit_status([Line("a", "1", "1", "pass"), Line("b", "1", "2", "fail")])
    1
    """
    return int(any(line.status == FAIL for line in lines))
