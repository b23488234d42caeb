"""Generate many tokens and watch memory: the cache must not grow, and neither must the process.

python -m tests.soak --tokens 20000
python -m tests.soak --tokens 1000000 --model small
"""

import argparse
import sys
import time
from dataclasses import dataclass
from unittest import mock

import psutil
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, RollingCache, load
from mistral_edu.generation_request import GenerationRequest

MEASURE_EVERY = 500


@dataclass(frozen=True)
class Report:
    """What a soak saw: sizes in bytes."""

    tokens: int
    seconds: float
    expected_cache_bytes: int
    cache_bytes: set[int]
    tokens_in_cache: int
    resident_after_warm_up: int
    resident_at_most: int

    @property
    def growth_bytes(self) -> int:
        """Resident memory at its highest, above what it was after the first thousand tokens."""
        return self.resident_at_most - self.resident_after_warm_up

    @property
    def is_flat(self) -> bool:
        """Whether every token went through a cache that kept its size, in flat memory (8 MiB)."""
        return (
            self.cache_bytes == {self.expected_cache_bytes}
            and self.tokens_in_cache == self.tokens
            and self.growth_bytes < 8 * 2**20
        )


def small_model() -> MistralForCausalLM:
    """Random weights, as small as a model with grouped heads and a window can be."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=16,
    )
    return MistralForCausalLM(config).eval()


def soak(model: MistralForCausalLM, tokens: int) -> Report:
    """Draw `tokens` tokens as `model.stream` does for everyone, measuring every 500."""
    config, caches = model.config, []
    make = GenerationRequest.new_cache

    def remember(request: GenerationRequest, model: MistralForCausalLM) -> RollingCache:
        caches.append(make(request, model))
        return caches[-1]

    sizes, resident = set(), []
    started = time.perf_counter()
    with mock.patch.object(GenerationRequest, "new_cache", remember):
        drawn = model.stream(
            torch.tensor([[config.bos_token_id]]),
            max_new_tokens=tokens,
            do_sample=True,
            repetition_penalty=1.1,
            eos_token_id=(),
            seed=0,
        )
        for made, _ in enumerate(drawn):
            if made % MEASURE_EVERY == 0 or made == tokens - 1:
                sizes.add(caches[0].nbytes)
                resident.append(psutil.Process().memory_info().rss)
    slots = min(config.sliding_window, tokens + 1)
    per_slot = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return Report(
        tokens=tokens,
        seconds=time.perf_counter() - started,
        expected_cache_bytes=per_slot * slots * model.dtype.itemsize,
        cache_bytes=sizes,
        tokens_in_cache=int(caches[0].lengths),  # bos in, the last token not: as many as made
        resident_after_warm_up=resident[min(2, len(resident) - 1)],
        resident_at_most=max(resident[2:] or resident),
    )


def main() -> int:
    """Command line of this module; 0 if memory stayed flat."""
    parser = argparse.ArgumentParser(description="Generate many tokens and watch memory.")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--model", default="tiny", help='"small" (random), or as for load()')
    options = parser.parse_args()
    model = small_model() if options.model == "small" else load(options.model)[0]
    report = soak(model, options.tokens)
    sizes = ", ".join(f"{size:,}" for size in sorted(report.cache_bytes))
    before, most = report.resident_after_warm_up / 2**20, report.resident_at_most / 2**20
    speed = report.tokens / report.seconds
    print(f"tokens            {report.tokens:,} in {report.seconds:.0f} s, {speed:,.0f} a second")
    print(f"in the cache      {report.tokens_in_cache:,} tokens seen")
    print(f"cache bytes       {sizes} (expected {report.expected_cache_bytes:,})")
    print(f"resident memory   {before:.1f} MiB after warm-up, at most {most:.1f} MiB")
    print(f"memory is flat    {report.is_flat}")
    return 0 if report.is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
