"""Training, saving, loading and padding; what is saved is read by SentencePiece too."""

import argparse
import pickle
import random
from pathlib import Path

import pytest
import sentencepiece
import torch
from text_samples import CORPUS, agree, random_text

from mistral_edu.sentencepiece_file import serialise
from mistral_edu.sentencepiece_model import Kind, Piece, SentencePieceModel
from mistral_edu.tokenizer import LARGEST_FILE, MistralTokenizer
from mistral_edu.wire_format import TokenizerFileError

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


NO_BATCHES = [([[1]], "top", "'top'"), ([], "left", "batch is empty")]


@pytest.mark.parametrize(("batch", "side", "why"), NO_BATCHES)
def test_padding_that_makes_no_sense_is_refused(trained, batch, side, why):
    with pytest.raises(ValueError, match=why):
        trained.pad(batch, side=side)


def test_the_padding_piece_of_a_vocabulary_is_used_when_there_is_one():
    pieces = (UNKNOWN, Piece("<pad>", 0.0, Kind.CONTROL))
    assert MistralTokenizer(SentencePieceModel(pieces, byte_fallback=False)).pad_id == 1


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

    def write_half_and_fail(path, data):
        with path.open("wb") as half:
            half.write(data[:100])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", write_half_and_fail)
    with pytest.raises(OSError, match="disk full"):
        trained.save(tmp_path)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_file_is_named_with_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer file at .*; expected a tokenizer"):
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
