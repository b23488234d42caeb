"""Texts that try a tokenizer: many scripts, code, emoji, controls, spaces, false pieces."""

import argparse
import functools
import itertools
import random
import sys
import unicodedata
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import sentencepiece
from hypothesis import settings
from hypothesis import strategies as st

PROPERTY = settings(max_examples=300, deadline=None, derandomize=True)

CORPUS = [
    "A tide pool holds 3.14 litres, doesn't it? Half of it ≈ 1,234,567 grains; none are blue.",
    "Früh übt Großmutter Jägerlatein, für 5 € überm Fluß. L'œuf brûlé à Noël, ça gêne le garçon.",
    "Náš kůň přešel řeku, žába ťape ďobě. Buổi sáng trời mưa nhẹ. Işık ığdırı İzmir'de.",
    "Утром ёжик съел щавель и ушёл. Το ψάρι κολυμπά ήσυχα. Փոքր թռչուն։ პატარა ჩიტი!",
    "القط يشرب الحليب، أليس كذلك؟ החתול ישן, נכון? گربه روی بام می‌نشیند",
    "नदी में मछली है, सच? নদীতে মাছ। ஆற்றில் மீன் నదిలో చేప ನದಿ പുഴ ਨਦੀ નદી ගඟ",
    "ปลาว่ายน้ำในแม่น้ำ ປາໃນນ້ຳ ငါးရေ ត្រីក្នុងទឹក ཆུ་ནང་ཉ། ᠵᠠᠭᠠᠰᠤ ዓሣ በውሃ ⴰⵙⵍⵎ ᎠᏣᏗ",
    "小猫在河边看鱼，不是吗？河辺で猫が魚を見る、ｻｶﾅも。강가에서 고양이가 물고기를 본다 ㄱㄴㄷ",
    "def f(x: int) -> str:\n\t\"\"\"Doc.\"\"\"\n    return f'{x!r:>{10}}'  # why\n\n\nclass A: 0",
    "#include <stdio.h>\r\nint main(void) { printf(\"%d\\n\", 0xFF & ~1); return 0; }\r\n",
    "SELECT * FROM t WHERE a != 'b' -- x\n<div class=\"é\">&nbsp;</div> \\frac{\\alpha}{2} $x^{2}$",
    "👩 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇫🇷🇩🇪 1️⃣ 🧑🏿‍🚀 ❤️‍🔥 text 😀😀😀😀",
    "".join(map(chr, range(32))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    *("\x00", "a\x00b", "\ufeff\u200b\u200d\u2028\u2029\u00a0\u3000\u202e\ufffd\uffff\U0010ffff"),
    *("<s>", "</s>", "<unk>", "[INST] Hi [/INST]", "<s>[INST] <<SYS>>", "<0x0A>", "<0x0a><0xFF>"),
    *("▁", "a▁b", " ▁ ", "▁▁▁ x", "", " ", "  ", "\n", "\t", " a", "a ", "  a  b   c    d     "),
    *("\u0301", "e\u0301\u0323\u0327", "Z\u0351\u036b\u0343A\u0334\u0335L", "ﬁ Å ½ ² Ⅷ ①"),
    *("riverbankotterwatchingstation" * 20, "a" * 1000, "é" * 100, "=" * 80, "ab" * 300),
    *(" " * length + "x" for length in range(2, 40)),
    f"Hello{' ' * 17}world\n{' ' * 5}",
]  # fmt: skip


FALSE_PIECES = ["<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "<0x0A>", "<0x0a>"]
FALSE_PIECES += [
    "<0xFF>",
    "<0x",
    "▁",
    "▁▁",
    "▁<s>",
    " <s>",
    "<s",
    "s>",
    "⁇",
    " ⁇ ",
    "\\n",
    "\ufffd",
]
CONTROLS = [chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0xAD, 0x200B, 0x2028, 0xFEFF)]
MARKS = [chr(code) for code in range(sys.maxunicode) if unicodedata.combining(chr(code))]
JOINERS = ["\u200d", "\ufe0f", "\u20e3", *map(chr, range(0x1F3FB, 0x1F400)), "\U000e0067"]
EMOJI = list("👩👨👧🐻🚀🔥❤☔⌚🏳🧑😀🤷♀🇫🇷🇩🇪1#🥲🫠") + [
    chr(code) for code in range(0x1F300, 0x1F6D0, 7)
]
CODE = Path(argparse.__file__).read_text(encoding="utf-8") + "".join(CORPUS[8:11])
SOUP_READERS = [("utf-8", "replace"), ("utf-8", "ignore"), ("latin-1", "strict")]
SOUP_READERS += [("utf-8", "backslashreplace"), ("utf-16-le", "replace"), ("cp1252", "replace")]


def random_text(rng: random.Random, pieces: list[str]) -> str:
    """Up to 40 characters of every plane, spaces in runs, and whole pieces, mixed."""
    planes = [(0, 0x80), (0, 0x800), (0, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    text = ""
    for kind in rng.choices(range(7), k=rng.randrange(40)):
        if kind < 5:
            text += chr(rng.randrange(*planes[kind]))
        else:
            text += rng.choice(pieces if kind == 5 else [" ", "  ", "▁", "\n", "\0", "<s>"])
    return text


def _some(rng: random.Random, parts: list[str], most: int = 12) -> str:
    return "".join(rng.choices(parts, k=rng.randint(1, most)))


def _spaced(rng: random.Random, pieces: list[str]) -> str:
    return _some(rng, [" " * rng.randint(1, 40), "▁", " ", "\n", rng.choice(pieces), "a"], 8)


def _soup(rng: random.Random, pieces: list[str]) -> str:
    encoding, errors = rng.choice(SOUP_READERS)
    mangled = bytearray(rng.choice([rng.randbytes(24), random_text(rng, pieces).encode()]))
    for _ in range(rng.randrange(4) if mangled else 0):
        mangled[rng.randrange(len(mangled))] = rng.randrange(256)
    return mangled.decode(encoding, errors)


def _code(rng: random.Random, pieces: list[str]) -> str:
    start = rng.randrange(len(CODE))
    return CODE[start : start + rng.randrange(120)]


def _world(rng: random.Random, pieces: list[str]) -> str:
    text = rng.choice(CORPUS)
    start = rng.randrange(len(text) + 1)
    return text[start : start + 30] + rng.choice(CORPUS)[:10]


KINDS: dict[str, Callable[[random.Random, list[str]], str]] = {
    "all planes": random_text,
    "scripts": _world,
    "pieces": lambda rng, pieces: _some(rng, pieces),
    "ascii": lambda rng, pieces: _some(rng, list(map(chr, range(128))), 40),
    "letters": lambda rng, pieces: _some(rng, list("aeinorst "), 40),
    "code": _code,
    "space runs": _spaced,
    "controls": lambda rng, pieces: _some(rng, [*CONTROLS, " ", "a", rng.choice(pieces)]),
    "combining marks": lambda rng, pieces: _some(
        rng, [rng.choice("aZ한あ ") for _ in "12"] + MARKS
    ),
    "false pieces": lambda rng, pieces: _some(rng, [*FALSE_PIECES, " ", "a"], 8),
    "emoji": lambda rng, pieces: _some(rng, EMOJI + JOINERS * 4),
    "byte soup": _soup,
}


TEXTS = st.text() | st.lists(
    st.sampled_from([*FALSE_PIECES, *EMOJI, *CONTROLS, " ", "  ", "a"]) | st.text(max_size=3)
).map("".join)


def generated(rng: random.Random, pieces: list[str], count: int) -> Iterator[tuple[str, str]]:
    """`count` texts, each with the name of its kind; all kinds in turn."""
    for name, make in itertools.islice(itertools.cycle(KINDS.items()), count):
        yield name, make(rng, pieces)


def every_character() -> Iterator[str]:
    """All 1,112,064 code points that are characters, 64 neighbours a text."""
    for start in range(0, sys.maxunicode + 1, 64):
        if not 0xD800 <= start < 0xE000:
            yield "".join(map(chr, range(start, start + 64)))


def random_ids(rng: random.Random, vocab_size: int) -> list[int]:
    """Up to 12 ids: any, control ids, bytes, bytes that begin or go on with a character."""
    ranges = [(0, vocab_size), (0, 3), (3, 259), (131, 195), (195, 259)]
    return [rng.randrange(*rng.choice(ranges)) for _ in range(rng.randrange(12))]


def agree(ours, oracle, text: str) -> bool:
    """True if both tokenizers give the same ids and read them back as the same text."""
    ids = ours.encode(text, bos=False)
    return ids == oracle.encode(text) and ours.decode(ids) == oracle.decode(ids)


@functools.cache
def real_oracle() -> sentencepiece.SentencePieceProcessor:
    """SentencePiece itself on the real Mistral-7B-v0.1 file."""
    data = (resources.files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes()
    return sentencepiece.SentencePieceProcessor(model_proto=data)
