"""One rank of tests/test_parallel.py: loads its part of each case, runs it, writes what came out.

`answers` is also what the test asks of one process.
"""

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._python_dispatch import TorchDispatchMode

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.parallel import joined, load_parallel, local_bytes
from tests.models import chunked_logits, left_padded

RANKS = 4
WINDOW = 4
PROMPTS = (1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW)
STEPS = 4  # so that the ring of the shortest wraps too


class Looking(TorchDispatchMode):
    """Counts the bytes that operations look at; a view looks at none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            given = [x for x in args if isinstance(x, Tensor) and not x.is_meta]
            self.bytes += sum(x.numel() * x.element_size() for x in given)
        return func(*args, **(kwargs or {}))


def texts(vocabulary: int, *lengths: int) -> tuple[Tensor, Tensor]:
    """Left-padded random rows of these lengths, and their mask."""
    random = torch.Generator().manual_seed(3)
    rows = [torch.randint(3, vocabulary, (length,), generator=random) for length in lengths]
    return left_padded(rows)


@torch.no_grad()
def answers(model: MistralForCausalLM) -> dict[str, Tensor]:
    """Logits of prompts with steps of decoding, without a cache and in chunks; and drawn tokens."""
    ids, mask = texts(model.config.vocab_size, *(length + STEPS for length in PROMPTS))
    real, last = mask.bool(), ids.shape[1] - STEPS
    output = model(ids[:, :last], mask[:, :last], use_cache=True)
    steps = [output.logits]
    for at in range(last, ids.shape[1]):
        output = model(ids[:, at : at + 1], past_key_values=output.past_key_values)
        steps.append(output.logits)
    found = {
        "steps": torch.cat(steps, dim=1)[real],
        "no cache": model(ids, mask, use_cache=False).logits[real],
        "chunks": chunked_logits(model, ids, WINDOW + 1, mask)[real],
        "drawn": model.generate(ids, mask, max_new_tokens=2, do_sample=True, seed=5),
    }
    assert all(type(tensor) is Tensor for tensor in found.values())
    return found


@torch.no_grad()
def holdings(model: MistralForCausalLM) -> dict:
    """What this rank holds, and how often it talks in one pass."""
    parts = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]
    with warnings.catch_warnings(), CommDebugMode() as talk:
        warnings.simplefilter("ignore")  # the counting hooks do not know our outputs
        output = model(torch.tensor([[1, 5, 9]]), use_cache=True)
    return {
        "bytes": local_bytes(model),
        "storage": sum(part.untyped_storage().nbytes() for part in parts),
        "cached heads": output.past_key_values.keys[0].shape[1],
        "cache bytes": output.past_key_values.nbytes,
        "type": type(output.logits).__name__,
        "talks": {str(kind).rpartition(".")[2]: n for kind, n in talk.get_comm_counts().items()},
    }


def seen_by(folder: Path, mesh: DeviceMesh) -> dict:
    """Everything that the test wants of this rank in a group of the mesh's size."""
    found: dict = {}
    for case, attention in (("grouped", "eager"), ("tied", "sdpa")):
        with Looking() as looking:
            model = load_parallel(folder / case, mesh, attention=attention)
        found[case] = {"looked at": looking.bytes, **holdings(model), "answers": answers(model)}
    with torch.no_grad():
        ids = torch.tensor([[1, 5, 9, 3, 7, 8]])
        found["original"] = load_parallel(folder / "original", mesh)(ids).logits
        found["half"] = load_parallel(folder / "half", mesh, dtype=torch.float32)(ids).logits
    try:
        load_parallel(folder / "one head", mesh)
    except ValueError as error:
        found["refusal"] = str(error)
    return found


def run(folder: Path, rank: int, port: int) -> None:
    """Be rank `rank` as torchrun would start it: in a group of four, and in one of two."""
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(RANKS),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(RANKS),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        CUDA_VISIBLE_DEVICES="",
    )
    torch.set_num_threads(1)
    with joined() as mesh:
        pairs = init_device_mesh("cpu", (RANKS // 2, 2), mesh_dim_names=("group", "rank"))
        found = {RANKS: seen_by(folder, mesh)}
        if rank < 2:  # the other pair would find the same
            found[2] = seen_by(folder, pairs["rank"])
        torch.distributed.barrier()
    torch.save(found, folder / f"{rank}.pt")
