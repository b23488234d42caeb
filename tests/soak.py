"""Generate many tokens and watch memory: the cache must not grow, and neither must the process.

python -m tests.soak --tokens 20000
"""

import argparse
import sys
import time
from dataclasses import dataclass

import psutil
import torch

from mistral_edu import MistralForCausalLM, MistralTokenizer, RollingCache, load


@dataclass(frozen=True)
class Report:
    """What a soak saw: sizes in bytes."""

    tokens: int
    seconds: float
    expected_cache_bytes: int
    cache_bytes: set[int]
    resident_after_warm_up: int
    resident_at_most: int

    @property
    def growth_bytes(self) -> int:
        """Resident memory at its highest, above what it was after the first thousand tokens."""
        return self.resident_at_most - self.resident_after_warm_up

    @property
    def is_flat(self) -> bool:
        """Whether the cache kept its size and the process did not grow by more than 8 MiB."""
        return self.cache_bytes == {self.expected_cache_bytes} and self.growth_bytes < 8 * 2**20


@torch.no_grad()
def soak(model: MistralForCausalLM, tokenizer: MistralTokenizer, tokens: int) -> Report:
    """Decode `tokens` tokens at random from one cache, measuring every 500."""
    torch.manual_seed(0)
    config = model.config
    cache = RollingCache.allocate(config, 1, dtype=model.dtype)
    per_slot = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    ids = torch.tensor([[tokenizer.bos_id]])
    sizes, resident = set(), []
    started = time.perf_counter()
    for made in range(tokens):
        logits = model(ids, past_key_values=cache).logits[:, -1]
        ids = torch.multinomial(logits.softmax(-1), 1)
        if made % 500 == 0 or made == tokens - 1:
            sizes.add(cache.nbytes)
            resident.append(psutil.Process().memory_info().rss)
    assert cache.lengths.tolist() == [tokens]
    return Report(
        tokens=tokens,
        seconds=time.perf_counter() - started,
        expected_cache_bytes=per_slot * config.sliding_window * model.dtype.itemsize,
        cache_bytes=sizes,
        resident_after_warm_up=resident[min(2, len(resident) - 1)],
        resident_at_most=max(resident[2:] or resident),
    )


def main() -> int:
    """Command line of this module; 0 if memory stayed flat."""
    parser = argparse.ArgumentParser(description="Generate many tokens and watch memory.")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    report = soak(*load(options.model), options.tokens)
    sizes = ", ".join(f"{size:,}" for size in sorted(report.cache_bytes))
    before, most = report.resident_after_warm_up / 2**20, report.resident_at_most / 2**20
    print(f"tokens            {report.tokens:,} in {report.seconds:.0f} s")
    print(f"cache bytes       {sizes} (expected {report.expected_cache_bytes:,})")
    print(f"resident memory   {before:.1f} MiB after warm-up, at most {most:.1f} MiB")
    print(f"memory is flat    {report.is_flat}")
    return 0 if report.is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
