"""Training, saving, loading and padding; what is saved is read by SentencePiece too."""

import argparse
import pickle
import random
import re
from pathlib import Path

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mistral_edu import cli, sentencepiece_file
from mistral_edu.sentencepiece_file import LARGEST_FILE, serialise
from mistral_edu.sentencepiece_model import Kind, Piece, SentencePieceModel
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.wire_format import TokenizerFileError
from tests.text_samples import CORPUS, PROPERTY, TEXTS, agree, random_text

ENGLISH = Path(argparse.__file__).read_text(encoding="utf-8")
UNKNOWN = Piece("<unk>", 0.0, Kind.UNKNOWN)


@pytest.fixture(scope="module")
def trained():
    return MistralTokenizer.train([ENGLISH, "naïve café"], 700)


def test_the_real_vocabulary_has_its_known_ids():
    real = MistralTokenizer.mistral_v1()
    assert (real.unk_id, real.bos_id, real.eos_id, real.vocab_size) == (0, 1, 2, 32000)
    assert real.pad_id == real.unk_id


def test_a_trained_model_is_read_by_sentencepiece_and_agrees(trained, tmp_path):
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(trained.save(tmp_path)))
    assert (oracle.unk_id(), oracle.bos_id(), oracle.eos_id(), oracle.pad_id()) == (0, 1, 2, -1)
    assert [oracle.id_to_piece(index) for index in range(oracle.vocab_size())] == trained.pieces
    rng = random.Random(9)
    texts = [ENGLISH[:20_000], *CORPUS, *(random_text(rng, trained.pieces) for _ in range(400))]
    for text in texts:
        assert agree(trained, oracle, text), text


def test_a_trained_vocabulary_is_laid_out_as_the_real_one(trained):
    kinds = [piece.kind for piece in trained.model.pieces]
    assert trained.pieces[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert kinds[3:259] == [Kind.BYTE] * 256
    assert set(kinds[259:]) == {Kind.NORMAL}
    learned = trained.model.pieces[259:]
    merged = [len(piece.text) > 1 for piece in learned]
    assert merged == sorted(merged, reverse=True), "merged pieces, then single characters"
    assert [piece.score for piece in learned] == [-rank for rank in range(len(learned))]
    assert not any("▁" in piece.text[1:] for piece in learned)
    assert not any(set(piece.text) & set("0123456789") for piece in learned if len(piece.text) > 1)


def test_training_on_the_same_lines_in_another_order_gives_the_same_file():
    lines = ENGLISH.splitlines()
    first = MistralTokenizer.train(lines, 500)
    second = MistralTokenizer.train(iter(reversed(lines)), 500)
    assert serialise(first.model) == serialise(second.model)


def size_named(texts, size):
    """The size that the refusal of `size` says these texts can give."""
    with pytest.raises(ValueError, match="expected at (most|least)") as refusal:
        MistralTokenizer.train(texts, size, character_coverage=1.0)
    return int(re.search(r"expected at (?:most|least) (\d+)", str(refusal.value))[1])


def vocabulary_of(texts, extra):
    """Train with `extra` merged pieces, or with as many as the texts have pairs for."""
    size = min(size_named(texts, 0) + extra, size_named(texts, 1_000_000))
    return MistralTokenizer.train(texts, size, character_coverage=1.0)


LEARNABLE = st.lists(st.text("ab é▁<s>0\0\n👩", max_size=12) | st.text(max_size=6), max_size=6)


@settings(PROPERTY, max_examples=60)
@given(texts=LEARNABLE, extra=st.integers(0, 12), order=st.randoms(use_true_random=False))
def test_equal_texts_in_any_order_give_equal_files_that_sentencepiece_reads(texts, extra, order):
    first = vocabulary_of(texts, extra)
    data = serialise(first.model)
    assert serialise(vocabulary_of(order.sample(texts, len(texts)), extra).model) == data
    oracle = sentencepiece.SentencePieceProcessor(model_proto=data)
    assert [oracle.id_to_piece(index) for index in range(oracle.vocab_size())] == first.pieces
    for text in [*texts, "".join(texts), *CORPUS[-9:]]:
        assert agree(first, oracle, text), text
        assert first.decode(first.encode(text)) == text.replace("▁", " ")


def test_a_null_character_is_learned_as_a_byte_because_no_file_can_hold_its_piece():
    tokenizer = MistralTokenizer.train(["a\0b a\0b"], 262)
    assert tokenizer.pieces[259:] == ["a", "b", "▁"] or tokenizer.pieces[259:] == ["▁", "a", "b"]
    oracle = sentencepiece.SentencePieceProcessor(model_proto=serialise(tokenizer.model))
    assert agree(tokenizer, oracle, "a\0b")


def test_the_space_sign_is_learned_however_rare_so_that_spaces_come_back():
    tokenizer = MistralTokenizer.train(["a" * 10_000 + " b"], 261, character_coverage=0.9)
    assert tokenizer.pieces[259:] == ["a", "▁"]
    assert tokenizer.decode(tokenizer.encode("b a")) == "b a"


@pytest.mark.parametrize(
    ("texts", "coverage", "why"),
    [
        ("one text", 1.0, "texts is one text, 'one text', expected several"),
        (["ok", "half \ud800"], 1.0, "character 5 of the text.*surrogate"),
        (["a"], 1.5, "character_coverage is 1.5, expected a share from 0 to 1"),
        (["a"], float("nan"), "character_coverage is nan"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(texts, coverage, why):
    with pytest.raises(ValueError, match=why):
        MistralTokenizer.train(texts, 300, character_coverage=coverage)


@pytest.mark.parametrize(("size", "words"), [(261, "at least 265"), (9999, "at most 27[0-9]")])
def test_a_size_that_the_texts_cannot_give_names_one_that_they_can(size, words):
    with pytest.raises(ValueError, match=f"vocab_size is {size}, expected {words}"):
        MistralTokenizer.train(["see the sea"], size)


def test_a_rare_character_is_spelled_in_bytes_and_read_back():
    tokenizer = MistralTokenizer.train(["abab " * 2000 + "é"], 265, character_coverage=0.999)
    assert "é" not in tokenizer.pieces
    assert tokenizer.decode(tokenizer.encode("é")) == "é"


def test_padding_goes_to_the_asked_side_and_is_masked():
    real = MistralTokenizer.mistral_v1()
    ids, mask = real.pad([[1, 5], [1, 6, 7], []])
    assert ids.tolist() == [[0, 1, 5], [1, 6, 7], [0, 0, 0]]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1], [0, 0, 0]]
    ids, mask = real.pad([[1, 5], [1, 6, 7]], side="right")
    assert (ids.tolist(), mask.tolist()) == ([[1, 5, 0], [1, 6, 7]], [[1, 1, 0], [1, 1, 1]])
    assert ids.dtype is mask.dtype is torch.int64
    assert real.pad([[real.pad_id, 5], [6]])[1].tolist() == [[1, 1], [0, 1]], "only filling is 0"


def test_rows_without_an_id_make_a_batch_without_a_column():
    ids, mask = MistralTokenizer.mistral_v1().pad([[], []])
    assert ids.shape == mask.shape == (2, 0)


@PROPERTY
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4),
    side=st.sampled_from(["left", "right"]),
    bos=st.booleans(),
    eos=st.booleans(),
)
def test_a_batch_is_its_texts_one_by_one_on_the_asked_side(texts, side, bos, eos, trained):
    rows = [trained.encode(text, bos=bos, eos=eos) for text in texts]
    ids, mask = trained.encode_batch(texts, side=side, bos=bos, eos=eos)
    assert [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)] == rows
    assert (ids[mask == 0] == trained.pad_id).all()
    ordered = mask if side == "left" else mask.flip(1)
    assert (ordered.diff(dim=1) >= 0).all(), "the filling is on one side"
    assert ids.shape[1] == max(map(len, rows))


def test_one_text_is_no_batch(trained):
    with pytest.raises(ValueError, match="texts is one text, 'otter', expected a list"):
        trained.encode_batch("otter")


NO_BATCHES = [([[1]], "top", "'top'"), ([], "left", "batch is empty")]


@pytest.mark.parametrize(("batch", "side", "why"), NO_BATCHES)
def test_padding_that_makes_no_sense_is_refused(trained, batch, side, why):
    with pytest.raises(ValueError, match=why):
        trained.pad(batch, side=side)


def test_the_padding_piece_of_a_vocabulary_is_used_when_there_is_one():
    pieces = (UNKNOWN, Piece("<pad>", 0.0, Kind.CONTROL))
    assert MistralTokenizer(SentencePieceModel(pieces, byte_fallback=False)).pad_id == 1


@pytest.mark.parametrize(
    ("text", "last", "ends"),
    [
        ("My favourite condiment is ", 28705, True),
        ("My favourite condiment is", 349, False),
        ("Hello  ", 259, True),
        ("Hello ▁", 259, True),
        ("Hello\n", 13, False),
        ("", 1, False),
    ],
)
def test_a_prompt_that_ends_in_a_space_of_its_own_is_recognised(text, last, ends):
    real = MistralTokenizer.mistral_v1()
    ids = real.encode(text)
    assert (ids[-1], real.ends_in_space(ids)) == (last, ends)
    assert not real.ends_in_space([])


def test_the_generate_command_warns_of_a_last_space_and_only_of_that(capsys):
    for prompt, warnings in (("In the ", 1), ("In the", 0)):
        assert cli.main(["generate", prompt, "--max-new-tokens", "1"]) == 0
        assert capsys.readouterr().err.count("without its last space") == warnings


def test_a_vocabulary_without_control_pieces_says_so_only_when_asked_for_one():
    bare = MistralTokenizer(SentencePieceModel((UNKNOWN, Piece("▁▁")), byte_fallback=False))
    assert bare.encode(" ", bos=False) == [1]
    with pytest.raises(ValueError, match="no bos piece; encode with bos=False"):
        bare.encode(" ")
    with pytest.raises(ValueError, match="no eos piece"):
        bare.encode(" ", bos=False, eos=True)


def test_a_normal_piece_that_looks_like_a_control_piece_is_not_one():
    pieces = (UNKNOWN, Piece("<s>"))
    assert MistralTokenizer(SentencePieceModel(pieces, byte_fallback=False)).bos_id is None


def test_saving_to_a_folder_or_a_file_reads_back_the_same(trained, tmp_path):
    assert trained.save(tmp_path / "new" / "folder").name == "tokenizer.model"
    assert trained.save(tmp_path / "my.model.v1") == tmp_path / "my.model.v1"
    for again in (
        MistralTokenizer.from_pretrained(tmp_path / "new" / "folder"),
        MistralTokenizer.from_file(tmp_path / "my.model.v1"),
    ):
        assert again.model == trained.model


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(trained, tmp_path, monkeypatch):
    file = trained.save(tmp_path)
    before = file.read_bytes()

    def full_disk(model):
        raise OSError("disk full")

    # The vocabulary is serialised when the file is already open for writing.
    monkeypatch.setattr(sentencepiece_file, "serialise", full_disk)
    with pytest.raises(OSError, match="disk full"):
        trained.save(tmp_path)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_file_is_named_with_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer file at .*; expected a tokenizer"):
        MistralTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="tokenizer.json, which lies there, is not read"):
        MistralTokenizer.from_pretrained(tmp_path)


def test_a_damaged_file_is_named_with_its_path(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model at all")
    with pytest.raises(TokenizerFileError, match="tokenizer.model: .*fetch the file again"):
        MistralTokenizer.from_pretrained(tmp_path)


def test_a_file_far_too_large_is_refused_unread(tmp_path):
    with (tmp_path / "tokenizer.model").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(TokenizerFileError, match="not the weights"):
        MistralTokenizer.from_pretrained(tmp_path)


def test_a_tokenizer_travels_to_another_process(trained):
    assert pickle.loads(pickle.dumps(trained)).encode("a café") == trained.encode("a café")
