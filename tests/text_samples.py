"""Texts that try a tokenizer: many scripts, code, emoji, controls, spaces, false pieces."""

import random

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


def agree(ours, oracle, text: str) -> bool:
    """True if both tokenizers give the same ids and read them back as the same text."""
    ids = ours.encode(text, bos=False)
    return ids == oracle.encode(text) and ours.decode(ids) == oracle.decode(ids)
