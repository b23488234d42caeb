"""Tensor parallelism: every process holds some heads and some channels of every layer.

    W_o [a₁; a₂] = W_o₁ a₁ + W_o₂ a₂:   rank r computes term r, a sum over the ranks adds them

W_q, W_k, W_v, W_gate and W_up are cut by rows, so that a rank computes its own heads and channels
alone; W_o and W_down by columns, so that what they give are terms of a sum. Hence two sums of
(B, T, C) a layer and one for the embedding; the logits are gathered once.

Source: Shoeybi et al., "Megatron-LM" (arXiv 1909.08053), section 3.
Lesson: 16_beyond_one_machine.

Conventions
    The engine is PyTorch's own: a plan says how each matrix is cut, DTensor does the talking.
    Query heads stay with their key/value head, so the number of ranks divides Hkv, and a rank's
    cache holds Hkv / ranks heads. Norms are small and on every rank.
    The feed-forward width must be divisible too; of the vocabulary the last ranks may get less.
    Every rank runs the same program on the same tokens and gets all logits.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from mistral_edu.config import MistralConfig
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.weights.model_folder import open_model
from mistral_edu.weights.model_weights import load_weights, own_tensors, require_plausible
from mistral_edu.weights.named import local_folder
from mistral_edu.weights.rank_shards import ShardSource
from mistral_edu.weights.shapes_only import shapes_only

LOCAL_RANK_AND_SIZE = (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))  # torchrun's, or alone


def plan() -> dict[str, ParallelStyle]:
    """How each matrix is cut; what is not named is whole on every rank.

    PyTorch counts columns of the matrix that multiplies from the right: what it calls "colwise"
    takes rows of our (out, in) weights, "rowwise" takes their columns.

    >>> sorted(name.rpartition(".")[2] for name, s in plan().items() if "Row" in type(s).__name__)
    ['down_proj', 'embed_tokens', 'o_proj']
    """
    apart = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj")
    joined = ("self_attn.o_proj", "mlp.down_proj")
    return {
        # By vocabulary: a rank knows only its own tokens and gives zeros for the rest.
        "model.embed_tokens": RowwiseParallel(input_layouts=Replicate()),
        **{f"model.layers.*.{name}": ColwiseParallel() for name in (*apart, "mlp.up_proj")},
        **{f"model.layers.*.{name}": RowwiseParallel() for name in joined},
        "lm_head": ColwiseParallel(output_layouts=Replicate()),
    }


def rank_config(config: MistralConfig, ranks: int) -> MistralConfig:
    """What one rank's caches and head masks are sized by: its share of the heads.

    Raises:
        ValueError: if the key/value heads or the feed-forward channels do not fall into `ranks`
            equal parts, or query heads were pruned, so that the parts would differ.

    >>> share = rank_config(MistralConfig.mistral_7b_v0_1(), ranks=4)
    >>> share.num_attention_heads, share.num_key_value_heads, share.head_dim
    (8, 2, 128)
    """
    shared = config.num_key_value_heads
    if shared % ranks:
        fitting = [n for n in range(1, shared + 1) if shared % n == 0]
        raise ValueError(
            f"num_key_value_heads={shared} is not divisible by the number of ranks, {ranks}: a "
            f"key/value head cannot be cut, so start one of {fitting} processes"
        )
    if config.intermediate_size % ranks:
        raise ValueError(
            f"intermediate_size={config.intermediate_size} is not divisible by the number of "
            f"ranks, {ranks}: start another number of processes"
        )
    if any(config.pruned_heads.values()):
        raise ValueError(
            f"pruned_heads={config.pruned_heads!r} leaves ranks with different numbers of heads: "
            "run a pruned model in one process"
        )
    return config.changed(
        num_attention_heads=config.num_attention_heads // ranks,
        num_key_value_heads=shared // ranks,
        head_dim=config.head_dim,
    )


def parallelize(model: MistralForCausalLM, mesh: DeviceMesh) -> MistralForCausalLM:
    """Cut a model on the meta device by the plan, in place, and give it the rank's config.

    Raises:
        ValueError: see `rank_config`.
    """
    share = rank_config(model.config, mesh.size())
    # No rank sends its weights to others: there are none yet, and each will read its own.
    parallelize_module(model, mesh, plan(), src_data_rank=None)
    for layer in model.model.layers:
        attention: Any = layer.self_attn
        attention.heads = list(range(share.num_attention_heads))
        attention.shared = [head // share.group_size for head in attention.heads]
    for part in (model, model.model):
        part.config = share
    return model


def load_parallel(
    name: str | Path,
    mesh: DeviceMesh,
    *,
    dtype: torch.dtype | None = None,
    attention: str = "auto",
) -> MistralForCausalLM:
    """Load this rank's part of a language model, in evaluation mode; call it on every rank.

    The model is used as any other. Its `config` counts the rank's heads, so that its caches, head
    masks and attention weights do too. With sampling, give every rank the same `seed`.

    Args:
        name: of a model of the course, a folder, or "owner/name" on the hub.
        mesh: the processes, along one axis; see `joined`.
        dtype: cast weights to this; None keeps the file's.
        attention: a backend's name.

    Raises:
        FileNotFoundError, HubError: see `weights.named.local_folder`.
        ValueError: see `rank_config`, `open_model` and `load_weights`.

    >>> with joined() as mesh, torch.no_grad():  # here a group of one
    ...     load_parallel("tiny", mesh)(torch.tensor([[1, 5]])).logits.shape
    torch.Size([1, 2, 2048])
    """
    config, source = open_model(local_folder(name, parts=["config", "weights"]))
    require_plausible(config, source)
    with shapes_only():
        model = MistralForCausalLM(config, attention)
    parallelize(model, mesh)
    device = mesh.device_type
    own = ShardSource(source, own_tensors(model), device)
    load_weights(model, own, dtype=dtype, device=device)
    return model.eval()


def local_bytes(model: MistralForCausalLM) -> int:
    """Bytes of the weights that this process holds; shared ones count once.

    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
    >>> local_bytes(MistralForCausalLM(config)) == 4 * (880 + 8 + 2 * 16 * 8)
    True
    """
    parts = (p.to_local() if isinstance(p, DTensor) else p for p in model.parameters())
    return sum(part.numel() * part.element_size() for part in parts)


@contextmanager
def joined() -> Iterator[DeviceMesh]:
    """Join the processes that torchrun started; the group is left when the block ends.

    A process that was started plainly is a group of one. Ranks compute on a GPU each if the machine
    has enough of them (and talk through NCCL), else on the CPU (through gloo).

    >>> with joined() as mesh:
    ...     mesh.size()
    1
    """
    place, here = (int(os.environ.get(*named)) for named in LOCAL_RANK_AND_SIZE)
    device = "cuda" if torch.cuda.device_count() >= here else "cpu"
    if device == "cuda":
        torch.cuda.set_device(place)
    backend = "nccl" if device == "cuda" else "gloo"
    if "RANK" in os.environ:
        distributed.init_process_group(backend)
    else:
        store = distributed.HashStore()  # in this process: there is nobody to meet
        distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield init_device_mesh(device, (distributed.get_world_size(),))
    finally:
        distributed.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> None:
    """Continue a text in parallel; rank 0 writes it, and what each rank holds.

        torchrun --nproc-per-node 2 -m mistral_edu.parallel "Once upon a time"

    >>> main(["Once upon a time", "--max-new-tokens", "1"])  # doctest: +ELLIPSIS
    rank 0 of 1: ... bytes of weights
    Once upon a time...
    """
    parser = argparse.ArgumentParser(prog="python -m mistral_edu.parallel")
    parser.add_argument("prompt", help="the text to continue")
    parser.add_argument("--model", default="tiny", help="a folder or hub id (%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=40, help="(%(default)s)")
    options = parser.parse_args(arguments)
    with joined() as mesh:
        model = load_parallel(options.model, mesh)
        tokenizer = MistralTokenizer.from_pretrained(local_folder(options.model))
        print(f"rank {mesh.get_rank()} of {mesh.size()}: {local_bytes(model):,} bytes of weights")
        ids = torch.tensor([tokenizer.encode(options.prompt)], device=model.device)
        made = model.generate(ids, max_new_tokens=options.max_new_tokens)
        if mesh.get_rank() == 0:
            print(tokenizer.decode(made[0].tolist()))


if __name__ == "__main__":
    main()
