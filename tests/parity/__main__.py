"""Compare with `transformers` on many random configurations and print the worst differences.

python -m tests.parity                 200 configurations, some minutes
python -m tests.parity --configs 20    those of the normal test run
"""

import argparse
import sys
import time

import torch

from tests.parity.cases import CASES, bound_of, make_pair


def worst_differences(seeds: range) -> dict[tuple[str, str], tuple[float, int]]:
    """For each case and part of it the largest difference, and the seed that had it."""
    worst: dict[tuple[str, str], tuple[float, int]] = {}
    for seed in seeds:
        pair = make_pair(seed)
        for case, compare in CASES.items():
            for part, value in compare(pair):
                key = (case, part)
                if not value <= worst.get(key, (-1.0, 0))[0]:  # NaN counts as worse
                    worst[key] = (value, seed)
    return worst


def main() -> int:
    """Command line of this module; 0 if every difference is within its bound."""
    parser = argparse.ArgumentParser(description="Worst differences from transformers.")
    parser.add_argument("--configs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    worst = worst_differences(range(options.first, options.first + options.configs))
    seconds = time.perf_counter() - started
    print(
        f"{options.configs} random configurations, {seconds:.0f} s; relative to the largest value"
    )
    print(f"{'case':<20}{'part':<28}{'worst':>10}{'bound':>10}{'seed':>6}")
    within = True
    for (case, part), (value, seed) in worst.items():
        fits = value <= bound_of(case, part)
        within = within and fits
        mark = "" if fits else "  TOO LARGE"
        print(f"{case:<20}{part:<28}{value:>10.1e}{bound_of(case, part):>10.1e}{seed:>6}{mark}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
