"""Compare our tokenizer with SentencePiece on as many generated texts as wanted, on the real file.

python -m tests.tokenizer_sweep --strings 200000
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable

from mistral_edu import MistralTokenizer
from tests.text_samples import agree, every_character, generated, random_ids, real_oracle


def sweep(ours, oracle, texts: Iterable[tuple[str, str]]) -> tuple[Counter[str], list[str]]:
    """Count the texts of each kind that agree, ids and decoding; list those that do not."""
    agreed: Counter[str] = Counter()
    differ = []
    for kind, text in texts:
        if agree(ours, oracle, text):
            agreed[kind] += 1
        else:
            differ.append(text)
    return agreed, differ


def main() -> int:
    """Command line of this module; 0 if every text agrees."""
    parser = argparse.ArgumentParser(description="Compare our tokenizer with SentencePiece.")
    parser.add_argument("--strings", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ours, oracle, rng = MistralTokenizer.mistral_v1(), real_oracle(), random.Random(options.seed)
    started = time.perf_counter()
    agreed, differ = sweep(ours, oracle, generated(rng, ours.pieces, options.strings))
    every, unlike = sweep(ours, oracle, (("every character", text) for text in every_character()))
    rows = [random_ids(rng, ours.vocab_size) for _ in range(options.strings)]
    unread = [ids for ids in rows if ours.decode(ids) != oracle.decode(ids)]
    for kind, count in (agreed + every).items():
        print(f"{kind:16} {count:>9,} texts agree")
    print(f"{'random ids':16} {len(rows) - len(unread):>9,} rows agree")
    wrong = [*differ, *unlike, *unread]
    seconds = time.perf_counter() - started
    print(f"{'differences':16} {len(wrong):>9,} in {seconds:.0f} s, seed {options.seed}")
    for each in wrong[:10]:
        print(f"    {ascii(each)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
