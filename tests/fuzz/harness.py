"""Runs a fuzz target: one reader of files, fed with damaged files.

A target is a module `fuzz_NAME.py` with a function `check(data: bytes)` that reads `data` as the
file. It returns if the reader accepted or refused it properly; anything it raises is a finding.

    python -m tests.fuzz.fuzz_NAME --mutations=2000     seeds changed at random; needs nothing
    python -m tests.fuzz.fuzz_NAME -atheris_runs=2000   guided by coverage; other -flags of
                                                        libFuzzer work too

`test_fuzz.py` runs every target both ways. A target ends with

    if __name__ == "__main__":
        main(check, seeds=[…])
"""

import atexit
import inspect
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

Check = Callable[[bytes], None]
TELLING = (b"\0", b"\xff", b"\x7f", b'"', b"{", b"[", b"}", b"-1", b"1e999", b"NaN", b"\\ud800")


def mutated(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """`data` after one to four random changes; some take a part of `other`."""
    for _ in range(draw.randint(1, 4)):
        start, end = sorted(draw.randint(0, len(data)) for _ in range(2))
        kind = draw.randrange(6)
        if kind == 0 and data:
            place = draw.randrange(len(data))
            data = data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:end]
        elif kind == 2:
            data = data[:start] + data[min(end, start + 16) :]
        elif kind == 3:
            data = data[:end] + data[start:end][:64] + data[end:]
        elif kind == 4:
            cut = draw.randint(0, len(other))
            data = data[:start] + other[cut : cut + 64] + data[start:]
        else:
            data = data[:start] + draw.choice(TELLING) + data[start:]
    return data


def run_mutations(check: Check, seeds: Sequence[bytes], count: int) -> None:
    """Give `check` every seed, then `count` mutations of them, the same ones every time."""
    draw = random.Random(0)
    inputs = iter(seeds)
    for _ in range(len(seeds) + count):
        data = next(inputs, None)
        if data is None:
            data = mutated(draw.choice(seeds), draw.choice(seeds), draw)
        try:
            check(data)
        except BaseException:
            print(f"a finding; the input was\n{data!r}", file=sys.stderr)
            raise


def put(path: Path, data: bytes) -> None:
    """Make `path` hold `data`, as a new file: some systems wait for the disk when one is reused."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def instrument_package() -> None:
    """Let atheris see which branches of mistral_edu an input takes, in all that is imported."""
    import atheris

    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "mistral_edu":
            continue
        holders = [module, *(kind for _, kind in inspect.getmembers(module, inspect.isclass))]
        for holder in holders:
            for _, function in inspect.getmembers(holder, inspect.isfunction):
                if function.__module__ == name:
                    atheris.instrument_func(function)


def run_atheris(check: Check, seeds: Sequence[bytes], flags: Sequence[str]) -> None:
    """Hand over to atheris, which ends the process; findings stop it with an error."""
    import atheris

    instrument_package()
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        artifacts = f"-artifact_prefix={folder}/"  # atheris prints the input itself as well
        arguments = [sys.argv[0], artifacts, "-seed=1", "-timeout=5", *flags, folder]
        # libFuzzer's alarm, which finds inputs that hang, must not ring while the process ends.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        atheris.Setup(arguments, check)
        atheris.Fuzz()


def main(check: Check, seeds: Sequence[bytes]) -> None:
    """Command line of a target."""
    flags = sys.argv[1:]
    counts = [flag.partition("=")[2] for flag in flags if flag.startswith("--mutations=")]
    if counts:
        run_mutations(check, seeds, int(counts[-1]))
    else:
        run_atheris(check, seeds, flags)
