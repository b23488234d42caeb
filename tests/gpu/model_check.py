"""The whole model on this device: the 7B with random weights, and tiny against itself on a CPU.

    decoded with a cache that wraps  =  one pass over the whole text without a cache

Random weights are drawn on the device: nothing is read, and a forward costs what it costs. One key
among 4096 moves no output, so whether the window ends at the right key is the business of the
step `backends`.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from mistral_edu import MistralConfig, MistralForCausalLM, load
from tests.gpu.backends_check import chosen, forced
from tests.gpu.build_flash import use_built
from tests.gpu.steps import PartFailed, Setting
from tests.models import difference, small_config

PARAMETERS, CACHE_BYTES = 7_241_732_096, 512 * 2**20
# Largest differences of logits, relative to the largest logit: rounding through all layers.
BOUND = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
AHEAD, NEW = 16, 48  # the prompt ends so many tokens before the window is full; tokens to decode


def parts(setting: Setting) -> dict[str, Callable[[], dict[str, Any]]]:
    """The parts of this step."""
    routes = ("flash package", "flash bundled", "sdpa") if setting.on_gpu else ("sdpa",)
    return {
        "weights": lambda: weights(setting),
        "forward": lambda: forward(setting),
        "decoding": lambda: decoding(setting),
    } | {f"tiny, {route}": partial(tiny, setting, route) for route in routes}


@cache
def random_model(setting: Setting) -> MistralForCausalLM:
    """The 7B (a small model in small settings) with weights drawn on the device."""
    use_built(setting)
    small = small_config(sliding_window=32, initializer_range=0.1)
    config = small if setting.small else MistralConfig.mistral_7b_v0_1()
    torch.manual_seed(setting.seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if setting.on_gpu else torch.float32)
    try:
        with torch.device(setting.device):
            return MistralForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def weights(setting: Setting) -> dict[str, Any]:
    """How many weights there are, and which backend "auto" means for them."""
    model = random_model(setting)
    expected = "flash" if setting.on_gpu else "sdpa"
    found = {
        "parameters": model.num_parameters(),
        "bytes": sum(weight.nbytes for weight in model.parameters()),
        "attention_backend": model.attention_backend,
    }
    require(model.attention_backend == expected, f'"auto" should be {expected}', found)
    require(setting.small or found["parameters"] == PARAMETERS, f"not {PARAMETERS:,}", found)
    return found


@torch.no_grad()
def forward(setting: Setting) -> dict[str, Any]:
    """One pass over a prompt: finite logits, and the most memory held meanwhile."""
    model = random_model(setting)
    ids = prompt(setting, model, 64 if setting.small else 2048)
    forget_peak(setting)
    logits = model(ids, use_cache=False).logits
    found = {"tokens": ids.shape[1], "peak_bytes": peak(setting)}
    require(bool(logits.isfinite().all()), "logits are not finite", found)
    return found


@torch.no_grad()
def decoding(setting: Setting) -> dict[str, Any]:
    """Greedy tokens while the ring wraps, held against one pass over them all without a cache."""
    model = random_model(setting)
    window = model.config.sliding_window
    start = prompt(setting, model, window - AHEAD)
    forget_peak(setting)
    output = model(start, use_cache=True, logits_to_keep=1)
    ring, rows = output.past_key_values, [output.logits[:, -1]]
    for _ in range(NEW - 1):
        rows.append(model(rows[-1].argmax(dim=-1)[:, None], past_key_values=ring).logits[:, -1])
    peak_bytes, stepwise = peak(setting), torch.stack(rows, dim=1)
    ids = torch.cat([start, stepwise.argmax(dim=-1)], dim=1)
    whole = model(ids[:, :-1], use_cache=False, logits_to_keep=NEW).logits
    generated = model.generate(start, max_new_tokens=NEW, eos_token_id=())
    found = {
        "prompt": start.shape[1],
        "decoded": NEW,
        "cache_bytes": ring.nbytes,
        "peak_bytes": peak_bytes,
        "difference": difference(stepwise, whole),
        "bound": BOUND[model.dtype],
        "generate_agrees": torch.equal(generated, ids),
    }
    heads = 2 * model.config.num_hidden_layers * model.config.num_key_value_heads
    own = heads * window * model.config.head_dim * model.dtype.itemsize
    expected = own if setting.small else CACHE_BYTES
    require(ring.nbytes == expected, f"the cache should hold {expected:,} bytes", found)
    require(found["difference"] <= found["bound"], "with and without a cache differ", found)
    require(found["generate_agrees"], "generate chooses other tokens", found)
    return found


@torch.no_grad()
def tiny(setting: Setting, route: str) -> dict[str, Any]:
    """The course's model in half precision on this device, against eager float32 on a CPU.

    In float16, which is what its weights are stored in. The text is several windows long, taken at
    once and in pieces through the ring.
    """
    dtype = torch.float16 if setting.on_gpu else torch.float32
    reference, tokenizer = load("tiny", attention="eager", dtype=torch.float32)
    name, kernels = chosen(setting, route, dtype, reference.config.head_dim)
    start = torch.tensor([tokenizer.encode("It was a windy")])
    ids = reference.generate(start, max_new_tokens=40 if setting.small else 200, eos_token_id=())
    expected = reference(ids, use_cache=False).logits
    model = load("tiny", attention="eager", dtype=dtype, device=setting.device)[0]
    model.model.attention = name
    with forced(setting, kernels):
        whole = model(ids.to(setting.device), use_cache=False).logits
        ring, pieces = None, []
        for piece in ids.to(setting.device).split([ids.shape[1] - 20, 9, *[1] * 11], dim=1):
            output = model(piece, past_key_values=ring, use_cache=True)
            ring, pieces = output.past_key_values, [*pieces, output.logits]
    differences = [difference(x.float().cpu(), expected) for x in (whole, torch.cat(pieces, 1))]
    found = {
        "tokens": ids.shape[1],
        "whole": differences[0],
        "through_the_ring": differences[1],
        "bound": BOUND[dtype],
        "same_choice": float((whole.cpu().argmax(-1) == expected.argmax(-1)).double().mean()),
    }
    require(max(differences) <= BOUND[dtype], "tiny says something else than on a CPU", found)
    return found


def require(is_so: bool, message: str, found: dict[str, Any]) -> None:
    """Fail the part, keeping what was found."""
    if not is_so:
        raise PartFailed(message, found)


def prompt(setting: Setting, model: MistralForCausalLM, tokens: int) -> Tensor:
    """Random ids on the device, the same for the same seed."""
    generator = torch.Generator().manual_seed(setting.seed + 1)
    ids = torch.randint(3, model.config.vocab_size, (1, tokens), generator=generator)
    return ids.to(setting.device)


def forget_peak(setting: Setting) -> None:
    """Count the most memory held from here on."""
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats()


def peak(setting: Setting) -> int | None:
    """The most bytes held on the device, or None on a CPU."""
    return torch.cuda.max_memory_allocated() if setting.on_gpu else None
