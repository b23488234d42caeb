"""Whether PyTorch can compute on a device here, asked before anything is read or fetched.

Lesson: 00_map_and_toolbox.
"""

import torch


def why_absent(device: torch.device | str) -> str | None:
    """Why PyTorch cannot use `device` here, or None if it can.

    >>> why_absent("cpu"), why_absent("gpu")
    (None, 'PyTorch knows no such device, expected cpu, or cuda for a GPU')
    """
    try:
        wanted = torch.device(device)
    except RuntimeError:
        return "PyTorch knows no such device, expected cpu, or cuda for a GPU"
    if wanted.type == "cuda":
        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA GPU here"
        count = torch.cuda.device_count()
        if wanted.index is not None and wanted.index >= count:
            return f"PyTorch finds {count} CUDA GPUs here, the first is cuda:0"
        return None
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError):  # the latter where PyTorch was built without it
        return "this PyTorch cannot use it here, expected cpu, or cuda for a GPU"
    return None


def require_device(device: torch.device | str) -> None:
    """Refuse a device that PyTorch cannot use here.

    Raises:
        ValueError: for such a device.

    >>> require_device("cpu")
    """
    if reason := why_absent(device):
        raise ValueError(f'device="{device}": {reason}; leave it out, or give device="cpu"')
