"""The tokenizer against SentencePiece: the real Mistral vocabulary, trained ones, odd settings."""

import argparse
import io
import pickle
import random
import time
from importlib import resources
from pathlib import Path

import pytest
import sentencepiece

from mistral_edu import tokenizer as tokenizer_module
from mistral_edu.sentencepiece_model import Kind, Piece, SentencePieceModel, serialise
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.wire_format import TokenizerFileError

CORPUS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? 3.14159 ≈ π; 1,234,567.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. L'été à Nîmes, ça coûte 5 €.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Việt Nam: tiếng Việt có dấu. İstanbul ığdır.",
    "Съешь же ещё этих мягких французских булок. Η γρήγορη αλεπού. Ողջույն։ გამარჯობა!",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם, מה שלומך? فارسی را پاس بداریم",
    "नमस्ते दुनिया, क्या हाल है? বাংলা ভাষা। தமிழ் மொழி తెలుగు ಕನ್ನಡ മലയാളം ਪੰਜਾਬੀ ગુજરાતી සිංහල",
    "สวัสดีชาวโลก ພາສາລາວ မြန်မာဘာသာ ភាសាខ្មែរ བོད་སྐད། ᠮᠣᠩᠭᠣᠯ አማርኛ ⵜⴰⵎⴰⵣⵉⵖⵜ ᏣᎳᎩ",
    "我能吞下玻璃而不伤身体。東京タワーへようこそ、ｶﾀｶﾅも。동해 물과 백두산이 마르고 닳도록 ㄱㄴㄷ",
    "def f(x: int) -> str:\n\t\"\"\"Doc.\"\"\"\n    return f'{x!r:>{10}}'  # noqa\n\n\nclass A(B): pass\n",
    "#include <stdio.h>\r\nint main(void) { printf(\"%d\\n\", 0xFF & ~1); return 0; }\r\n",
    "SELECT * FROM t WHERE a != 'b' -- x\n<div class=\"é\">&nbsp;</div> \\frac{\\alpha}{2} $x^{2}$",
    "👩 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇫🇷🇩🇪 1️⃣ 🧑🏿‍🚀 ❤️‍🔥 text 😀😀😀😀",
    "".join(map(chr, range(32))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "\x00", "a\x00b", "\ufeff\u200b\u200d\u2028\u2029\u00a0\u3000\u202e\ufffd\uffff\U0010ffff",
    "<s>", "</s>", "<unk>", "[INST] Hi [/INST]", "<s>[INST] <<SYS>>", "<0x0A>", "<0x0a><0xFF>", "<pad>",
    "▁", "a▁b", " ▁ ", "▁▁▁ x", "", " ", "  ", "\n", "\t", " a", "a ", "  a  b   c    d     ",
    "\u0301", "e\u0301\u0323\u0327", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L", "ﬁ Å Å ½ ² Ⅷ ①",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 20, "a" * 1000, "é" * 100, "=" * 80, "ab" * 300,
]  # fmt: skip
CORPUS += [" " * length + "x" for length in range(2, 40)] + [f"Hello{' ' * 17}world\n{' ' * 5}"]


@pytest.fixture(scope="module")
def real():
    return MistralTokenizer.mistral_v1()


@pytest.fixture(scope="module")
def oracle():
    data = (resources.files("mistral_common") / "data" / "tokenizer.model.v1").read_bytes()
    return sentencepiece.SentencePieceProcessor(model_proto=data)


@pytest.fixture(scope="module")
def english():
    return Path(argparse.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained(english):
    return MistralTokenizer.train([english, "naïve café"], 700)


def random_text(rng, pieces):
    """Characters of every plane, spaces in runs, and whole pieces, mixed."""
    ranges = [(0, 0x80), (0, 0x800), (0, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    kinds = [lambda low=low, high=high: chr(rng.randrange(low, high)) for low, high in ranges]
    kinds += [lambda: rng.choice(pieces), lambda: rng.choice([" ", "  ", "▁", "\n", "\0", "<s>"])]
    return "".join(rng.choice(kinds)() for _ in range(rng.randrange(40)))


def agree(ours, oracle, text):
    ids = ours.encode(text, bos=False)
    return ids == oracle.encode(text) and ours.decode(ids) == oracle.decode(ids)


def oracle_of(model):
    return sentencepiece.SentencePieceProcessor(model_proto=serialise(model))


@pytest.mark.parametrize("text", CORPUS, ids=lambda text: ascii(text[:12]))
def test_the_corpus_has_the_ids_and_the_text_of_sentencepiece(text, real, oracle):
    assert agree(real, oracle, text)
    assert real.decode(real.encode(text)) == text.replace("▁", " ")


def test_random_strings_over_all_planes_have_the_ids_of_sentencepiece(real, oracle):
    rng = random.Random(5)
    for _ in range(4000):
        text = random_text(rng, real.pieces)
        assert agree(real, oracle, text), text


def test_random_ids_decode_as_sentencepiece_decodes_them(real, oracle):
    rng = random.Random(6)
    ranges = [(0, 32000), (0, 3), (3, 259), (180, 259), (28705, 28706)]
    for _ in range(6000):
        ids = [rng.randrange(*rng.choice(ranges)) for _ in range(rng.randrange(12))]
        assert real.decode(ids) == oracle.decode(ids), ids


def test_the_published_ids_of_the_reference(real):
    assert real.encode("My favourite condiment is ") == [1, 1984, 16020, 2076, 2487, 349, 28705]
    assert real.encode("Hello  world", bos=False, eos=True) == [22557, 28705, 1526, 2]
    assert (real.unk_id, real.bos_id, real.eos_id, real.vocab_size) == (0, 1, 2, 32000)


def test_a_megabyte_takes_seconds_even_without_a_space(real):
    rng = random.Random(7)
    words = [real.pieces[index].replace("▁", " ") for index in rng.choices(range(259, 28705), k=4000)]
    texts = ["".join(rng.choices(words, k=180_000)), "".join(rng.choices("etaoin", k=300_000))]
    for text in texts:
        start = time.process_time()
        real.encode(text)
        assert time.process_time() - start < 15, f"{len(text)} characters: quadratic takes hours"


def test_the_streamed_pieces_are_whole_characters_and_join_to_the_text(real):
    rng = random.Random(8)
    for text in [*CORPUS, *(random_text(rng, real.pieces) for _ in range(200))]:
        stream, ids = real.decoder(), real.encode(text)
        pieces = [stream.add(index) for index in ids] + [stream.finish()]
        assert "".join(pieces) == text.replace("▁", " ")
        assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_never_become_a_character_come_out_at_the_end(real):
    stream = real.decoder()
    assert [stream.add(index) for index in (243, 162, 148)] == ["", "", ""]
    assert stream.finish() == "\ufffd" * 3
    assert stream.finish() == ""


@pytest.mark.parametrize("index", [-1, 32000])
def test_an_id_outside_the_vocabulary_is_named(real, index):
    with pytest.raises(ValueError, match=f"id {index} is outside the vocabulary.*31999"):
        real.decode([1, index])


@pytest.mark.parametrize("text", ["ab\ud800c", "ab\udfff"])
def test_half_a_surrogate_pair_is_named_with_its_place(real, text):
    with pytest.raises(ValueError, match="character 2 of the text.*surrogate"):
        real.encode(text)


def test_padding_goes_to_the_asked_side_and_is_masked(real):
    ids, mask = real.pad([[1, 5], [1, 6, 7], []])
    assert ids.tolist() == [[0, 1, 5], [1, 6, 7], [0, 0, 0]]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1], [0, 0, 0]]
    ids, mask = real.pad([[1, 5], [1, 6, 7]], side="right")
    assert (ids.tolist(), mask.tolist()) == ([[1, 5, 0], [1, 6, 7]], [[1, 1, 0], [1, 1, 1]])
    assert str(ids.dtype) == str(mask.dtype) == "torch.int64"


@pytest.mark.parametrize(("batch", "side", "word"), [([[1]], "top", "'top'"), ([], "left", "empty")])
def test_padding_that_makes_no_sense_is_refused(real, batch, side, word):
    with pytest.raises(ValueError, match=word):
        real.pad(batch, side=side)


def test_a_trained_model_is_read_by_sentencepiece_and_agrees(trained, english, tmp_path):
    file = trained.save(tmp_path)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert (oracle.vocab_size(), oracle.unk_id(), oracle.bos_id(), oracle.eos_id()) == (700, 0, 1, 2)
    rng = random.Random(9)
    for text in [english, *CORPUS, *(random_text(rng, trained.pieces) for _ in range(1000))]:
        assert agree(trained, oracle, text), text


def test_a_trained_vocabulary_is_laid_out_as_the_real_one(trained):
    kinds = [piece.kind for piece in trained.model.pieces]
    assert trained.pieces[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert kinds[3:259] == [Kind.BYTE] * 256 and set(kinds[259:]) == {Kind.NORMAL}
    learned = trained.pieces[259:]
    lengths = [len(piece) > 1 for piece in learned]
    assert lengths == sorted(lengths, reverse=True), "merged pieces, then single characters"
    assert [piece.score for piece in trained.model.pieces[259:]] == [-k for k in range(len(learned))]
    assert not any("▁" in piece[1:] for piece in learned)
    assert not any(len(piece) > 1 and set(piece) & set("0123456789") for piece in learned)


def test_training_twice_gives_the_same_file(english):
    lines = english.splitlines()
    first = MistralTokenizer.train(lines, 500)
    second = MistralTokenizer.train(iter(reversed(lines)), 500)
    assert serialise(first.model) == serialise(second.model)


@pytest.mark.parametrize(("size", "words"), [(261, "at least 26"), (9999, "at most 2")])
def test_a_size_that_the_texts_cannot_give_names_one_that_they_can(size, words):
    with pytest.raises(ValueError, match=f"vocab_size is {size}, expected {words}"):
        MistralTokenizer.train(["see the sea"], size)


@pytest.mark.parametrize("extra", [True, False], ids=["trim", "keep"])
@pytest.mark.parametrize("prefix", [True, False], ids=["prefix", "bare"])
@pytest.mark.parametrize("fallback", [True, False], ids=["bytes", "unknown"])
def test_a_file_trained_by_sentencepiece_agrees_under_every_setting(
    english, extra, prefix, fallback
):
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(english.splitlines()[:400]), model_writer=file, vocab_size=500,
        model_type="bpe", normalization_rule_name="identity", byte_fallback=fallback,
        add_dummy_prefix=prefix, remove_extra_whitespaces=extra, minloglevel=2,
        user_defined_symbols=["[INST]", "[IN", "▁go", "hel"], allow_whitespace_only_pieces=True,
    )  # fmt: skip
    ours = MistralTokenizer(tokenizer_module.parse(file.getvalue()))
    oracle = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
    rng = random.Random(10)
    texts = ["[INST][IN hello goes  help[INST] ▁ ", " ▁", "▁ x", *CORPUS]
    for text in texts + [random_text(rng, ours.pieces) for _ in range(500)]:
        assert agree(ours, oracle, text), text
    for _ in range(500):
        ids = rng.choices(range(500), k=rng.randrange(6))
        assert ours.decode(ids) == oracle.decode(ids), ids


def test_a_vocabulary_without_bos_says_so_only_when_asked_for_it():
    model = SentencePieceModel((Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("▁")), byte_fallback=False)
    bare = MistralTokenizer(model)
    assert bare.encode(" ", bos=False) == oracle_of(model).encode(" ")
    with pytest.raises(ValueError, match="no bos piece.*bos=False"):
        bare.encode("a")


def test_the_vocabulary_s_own_padding_piece_is_used_when_there_is_one():
    pieces = (Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("<pad>", 0.0, Kind.CONTROL))
    assert MistralTokenizer(SentencePieceModel(pieces, byte_fallback=False)).pad_id == 1


def test_saving_to_a_folder_or_a_file_reads_back_the_same(trained, tmp_path):
    assert trained.save(tmp_path / "new" / "folder").name == "tokenizer.model"
    assert trained.save(tmp_path / "my.model.v1") == tmp_path / "my.model.v1"
    again = MistralTokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert again.model == MistralTokenizer.from_file(tmp_path / "my.model.v1").model == trained.model


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(trained, tmp_path, monkeypatch):
    file = trained.save(tmp_path)
    before = file.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        trained.save(tmp_path)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_a_missing_file_is_named_with_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer file at .*expected a tokenizer\.model"):
        MistralTokenizer.from_pretrained(tmp_path)


def test_a_damaged_file_is_named_with_its_path(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model at all")
    with pytest.raises(TokenizerFileError, match="tokenizer.model: .*fetch the file again"):
        MistralTokenizer.from_pretrained(tmp_path)


def test_a_file_far_too_large_is_refused_unread(tmp_path):
    with (tmp_path / "tokenizer.model").open("wb") as file:
        file.truncate(tokenizer_module.LARGEST_FILE + 1)
    with pytest.raises(TokenizerFileError, match="not the weights"):
        MistralTokenizer.from_pretrained(tmp_path)


def test_a_tokenizer_travels_to_another_process(trained):
    assert pickle.loads(pickle.dumps(trained)).encode("a café") == trained.encode("a café")
