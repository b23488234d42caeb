"""The engine on this device: prefill and steps against the model in float64 on a CPU.

    prompt, then token by token through the ring  =  one eager pass over the whole text, no cache

Models, prompts and their lengths are drawn from the run's seed. Rows are ragged: some rings fill in
the prompt, some while stepping, and all wrap. On a GPU the recorded step is held against the
unrecorded one, too. In float32 `generate` must choose the ids that the plain model chooses, the
likeliest as well as those drawn by rules.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mistral_edu import MistralForCausalLM
from mistral_edu.engine import Engine
from tests.gpu.backends_check import TYPES, chosen, forced
from tests.gpu.model_check import BOUND, require
from tests.gpu.steps import Setting
from tests.models import difference, left_padded, random_ids, small_model

BATCHES = (1, 8, 64)
WINDOW, LONGEST, STEPS, CHUNK = 16, 40, 36, 7  # tokens; more steps than windows hold twice
RULES = {  # every one of those that choose, and so are recorded with the step
    "do_sample": True,
    "temperature": 0.9,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.01,
    "repetition_penalty": 1.2,
    "min_new_tokens": STEPS // 2,
    "seed": 0,
}
HEAD = 128  # what the trimmed flash-attn is built for


def parts(setting: Setting) -> dict[str, Callable[[], dict[str, Any]]]:
    """One part for each way to attend, type and batch size."""
    routes = ("sdpa", "flash package", "flash bundled") if setting.on_gpu else ("sdpa",)
    return {
        f"{route}, {name}, batch {batch}": partial(check, setting, route, dtype, batch)
        for route in routes
        for dtype, name in TYPES.items()
        for batch in BATCHES
        if not (route.startswith("flash") and dtype == torch.float32)
    }


@torch.no_grad()
def check(setting: Setting, route: str, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    """One model in one type, for a batch.

    Raises:
        NotHere: if the route does not exist on this machine.
        PartFailed: if the engine says something else than the oracle or the plain model.
    """
    name, kernels = chosen(setting, route, dtype, HEAD)
    model = fresh_model(setting).to(setting.device, dtype)
    texts, mask = fresh_texts(setting, model, batch)
    expected = oracle(model, texts, mask)
    model.model.attention = name
    found: dict[str, Any] = {"bound": BOUND[dtype], "prompt_tokens": LONGEST, "steps": STEPS}
    said = {}
    with forced(setting, kernels):
        for record in (True, False) if setting.on_gpu else (False,):
            engine = Engine(model, batch, max_chunk=CHUNK * batch, multiply="plain", record=record)
            said[record] = scores(engine, texts, mask)
            key = "recorded" if record else "unrecorded"
            found[key] = difference(said[record].double().cpu(), expected)
            require(found[key] <= BOUND[dtype], f"{key}: not what the oracle says", found)
            if dtype == torch.float32:
                same_choices(model, engine, texts, mask, found)
    if len(said) == 2:
        found["recorded_from_unrecorded"] = difference(said[True], said[False])
        alike = found["recorded_from_unrecorded"] <= BOUND[dtype]
        require(alike, "recorded and unrecorded steps differ", found)
    return found


def fresh_model(setting: Setting) -> MistralForCausalLM:
    """A small model whose weights the seed decides."""
    return small_model(setting.seed, head_dim=HEAD, sliding_window=WINDOW, initializer_range=0.15)


def fresh_texts(setting: Setting, model: MistralForCausalLM, batch: int) -> tuple[Tensor, Tensor]:
    """Left-padded texts of prompt and steps, and their mask: one prompt is the longest."""
    draw = torch.Generator().manual_seed(setting.seed)
    lengths = torch.randint(1, LONGEST + 1, (batch,), generator=draw).tolist()
    rows = random_ids(model, batch, LONGEST + STEPS, setting.seed)
    lengths[0] = LONGEST
    return left_padded([row[: n + STEPS] for row, n in zip(rows, lengths, strict=True)])


def oracle(model: MistralForCausalLM, texts: Tensor, mask: Tensor) -> Tensor:
    """Logits after the prompt and after each step, by one eager pass in float64 on a CPU."""
    exact = MistralForCausalLM(model.config, attention="eager").double().eval()
    exact.load_state_dict({name: w.double().cpu() for name, w in model.state_dict().items()})
    logits = exact(texts, attention_mask=mask, use_cache=False).logits
    return logits[:, LONGEST - 1 :].double()


def scores(engine: Engine, texts: Tensor, mask: Tensor) -> Tensor:
    """The same from the engine: prompts at once, then token by token."""
    texts, mask = texts.to(engine.device), mask.to(engine.device)
    rows = [engine.prefill(texts[:, :LONGEST], mask[:, :LONGEST])]
    rows += [engine.step(column) for column in texts[:, LONGEST:].T]
    return torch.stack(rows, dim=1)


def same_choices(
    model: MistralForCausalLM, engine: Engine, texts: Tensor, mask: Tensor, found: dict[str, Any]
) -> None:
    """Require of the engine's `generate` the ids that the plain model's chooses."""
    start = texts[:, :LONGEST].to(engine.device), mask[:, :LONGEST].to(engine.device)
    for key, rules in {"generate_agrees": {}, "sampling_agrees": RULES}.items():
        options: dict[str, Any] = {"max_new_tokens": STEPS, "eos_token_id": (2,)} | rules
        found[key] = torch.equal(
            engine.generate(*start, **options), model.generate(*start, **options)
        )
        require(found[key], "generate chooses other tokens", found)
