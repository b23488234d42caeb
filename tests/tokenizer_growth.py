"""How the time to encode grows with the text: seconds, and heap operations, which are exact.

python -m tests.tokenizer_growth
"""

import argparse
import random
import time
from collections.abc import Callable
from unittest.mock import patch

from mistral_edu import MistralTokenizer, bpe
from tests.text_samples import CODE, EMOJI, real_oracle


def _repeated(text: str, size: int) -> str:
    return text * (size // len(text.encode()) + 1)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _letters(size: int) -> str:
    return "".join(random.Random(0).choices("etaoinshr", k=size))


TEXTS: dict[str, Callable[[int], str]] = {
    "normal text": lambda size: _cut(_repeated(CODE, size), size),
    "one long word": _letters,
    "one letter": lambda size: "a" * size,
    "all spaces": lambda size: " " * size,
    "emoji": lambda size: _cut("".join(random.Random(0).choices(EMOJI, k=size // 3)), size),
}


def heap_operations(tokenizer: MistralTokenizer, text: str) -> int:
    """How often encoding `text` pushes to, and pops from, the heap of pairs."""
    calls = 0

    def counting(function: Callable) -> Callable:
        def counted(*arguments):
            nonlocal calls
            calls += 1
            return function(*arguments)

        return counted

    push, pop = counting(bpe.heappush), counting(bpe.heappop)
    with patch.object(bpe, "heappush", push), patch.object(bpe, "heappop", pop):
        tokenizer.encode(text)
    return calls


def seconds(encode: Callable[[str], object], text: str) -> float:
    """Processor time of one call."""
    started = time.process_time()
    encode(text)
    return time.process_time() - started


def grown(now: float, before: float | None) -> str:
    """By which factor a figure grew; nothing where it began at nothing."""
    return f"× {now / before:.2f}" if before else ""


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="How the time to encode grows with the text.")
    parser.add_argument("--largest", type=int, default=1_000_000, help="bytes (%(default)s)")
    largest = parser.parse_args().largest
    oracle = real_oracle()
    print("text                 bytes  seconds            heap ops            SentencePiece s")
    for name, make in TEXTS.items():
        taken = heap = None
        for size in (largest // 8, largest // 4, largest // 2, largest):
            text, before, heap_before = make(size), taken, heap
            # A fresh tokenizer each time: one that remembers words would do less and less.
            taken = seconds(MistralTokenizer.mistral_v1().encode, text)
            heap = heap_operations(MistralTokenizer.mistral_v1(), text)
            row = f"{name:14}{size:>12,}{taken:>9.2f} {grown(taken, before):8}"
            row += f"{heap:>11,} {grown(heap, heap_before):8}"
            print(f"{row}{seconds(oracle.encode, text):>17.2f}")


if __name__ == "__main__":
    main()
