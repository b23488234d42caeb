"""GGUF: what is written is read back tensor by tensor, and llama.cpp continues a text as we do."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mistral_edu import MistralTokenizer, cli, load
from mistral_edu.paths import data_dir
from mistral_edu.sentencepiece_model import Kind, SentencePieceModel
from mistral_edu.weights import WeightsError
from mistral_edu.weights.gguf import describe_tokenizer, export, gguf_name
from mistral_edu.weights.names import entries
from mistral_edu.weights.sources import open_safetensors
from tests.models import small_config, small_model

gguf = pytest.importorskip("gguf", reason="the gguf package is not installed: pip install gguf")

TINY = data_dir() / "tiny"


def read(path):
    return gguf.GGUFReader(path)


def value(reader, key):
    return reader.fields[key].contents()


def tensors(reader):
    """Every tensor by name, in float32."""
    found = {}
    for tensor in reader.tensors:
        shape = tuple(reversed([int(side) for side in tensor.shape]))
        flat = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        found[tensor.name] = torch.from_numpy(flat.copy())
    return found


# ── tensors ─────────────────────────────────────────────────────────────────────────────────────


def test_every_name_is_the_one_that_the_gguf_package_gives():
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for entry in entries(small_config()):
        theirs = table.get_name(entry.hugging_face, try_suffixes=(".weight",))
        assert gguf_name(entry.original) == theirs


def paired(weight, heads):
    """Rows of each head in llama.cpp's order, one at a time: a0 b0 a1 b1 …"""
    half = len(weight) // heads // 2
    order = [h * 2 * half + i + b * half for h in range(heads) for i in range(half) for b in (0, 1)]
    return weight[order]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tied", [False, True])
def test_reading_back_gives_every_tensor(tmp_path, dtype, tied):
    model = small_model(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path, dtype=dtype)
    path = export(tmp_path, tmp_path / "out")
    assert path == tmp_path / "out" / "model.gguf"
    found = tensors(read(path))
    assert ("output.weight" in found) is not tied
    stored = open_safetensors(tmp_path)
    expected = {}
    for entry in entries(model.config):
        weight = stored.read(entry.hugging_face).float()
        expected[gguf_name(entry.original)] = paired(weight, entry.heads) if entry.heads else weight
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def test_norms_are_float32_and_a_cast_changes_matrices_only(tmp_path):
    small_model().save_pretrained(tmp_path)
    path = export(tmp_path, tmp_path / "half.gguf", torch.bfloat16)
    for tensor in read(path).tensors:
        kind = "F32" if len(tensor.shape) == 1 else "BF16"
        assert tensor.tensor_type.name == kind, tensor.name


# ── what describes them ─────────────────────────────────────────────────────────────────────────


def test_the_numbers_of_the_config_are_there(tmp_path):
    model = small_model(head_dim=16, rope_theta=5e5, rms_norm_eps=1e-3)
    model.save_pretrained(tmp_path)
    reader = read(export(tmp_path, tmp_path / "a.gguf"))
    expected = {
        "vocab_size": 64,
        "context_length": 256,
        "embedding_length": 32,
        "block_count": 2,
        "feed_forward_length": 64,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 16,
        "attention.value_length": 16,
        "attention.sliding_window": 4,
        "rope.dimension_count": 16,
        "rope.freq_base": 5e5,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-3),
    }
    for key, number in expected.items():
        assert value(reader, f"llama.{key}") == number, key
    assert value(reader, "general.architecture") == "llama"
    assert value(reader, "tokenizer.ggml.model") == "none"


def test_what_follows_from_the_width_or_does_not_exist_is_left_out(tmp_path):
    small_model(sliding_window=None).save_pretrained(tmp_path)
    fields = read(export(tmp_path, tmp_path / "a.gguf")).fields
    for key in ("key_length", "value_length", "sliding_window"):
        assert f"llama.attention.{key}" not in fields


def test_the_vocabulary_is_that_of_the_tokenizer_file(tmp_path):
    reader = read(export(TINY, tmp_path))
    tokenizer = MistralTokenizer.from_pretrained(TINY)
    pieces = tokenizer.model.pieces
    assert value(reader, "tokenizer.ggml.model") == "llama"
    assert value(reader, "tokenizer.ggml.tokens") == [piece.text for piece in pieces]
    assert value(reader, "tokenizer.ggml.scores") == pytest.approx([p.score for p in pieces])
    assert value(reader, "tokenizer.ggml.token_type") == [int(piece.kind) for piece in pieces]
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unknown": tokenizer.unk_id}
    for name, number in ids.items():
        assert value(reader, f"tokenizer.ggml.{name}_token_id") == number, name
    assert value(reader, "tokenizer.ggml.add_bos_token") is True
    assert value(reader, "tokenizer.ggml.add_eos_token") is False
    assert value(reader, "tokenizer.ggml.add_space_prefix") is True


def test_ids_past_the_vocabulary_are_named_and_unused(tmp_path):
    pieces = MistralTokenizer.from_pretrained(TINY).model.pieces
    writer = gguf.GGUFWriter(None, "llama")
    describe_tokenizer(writer, SentencePieceModel(pieces), len(pieces) + 2)
    data = writer.kv_data[0]
    assert data["tokenizer.ggml.tokens"].value[-2:] == ["<unused 0>", "<unused 1>"]
    assert data["tokenizer.ggml.token_type"].value[-2:] == [int(Kind.UNUSED)] * 2
    assert len(data["tokenizer.ggml.scores"].value) == len(pieces) + 2


# ── what is refused ─────────────────────────────────────────────────────────────────────────────


def test_a_tokenizer_of_another_model_is_refused_and_nothing_is_left(tmp_path):
    small_model().save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "tokenizer.model").write_bytes((TINY / "tokenizer.model").read_bytes())
    with pytest.raises(WeightsError, match="2048 pieces and the model 64 ids"):
        export(tmp_path / "a", tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    small_model().save_pretrained(tmp_path)
    path = tmp_path / "a.gguf"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="give overwrite=True to replace it"):
        export(tmp_path, path)
    assert path.read_text() == "mine"
    export(tmp_path, path, overwrite=True)
    assert path.read_bytes()[:4] == b"GGUF"


def test_without_the_package_the_command_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert cli.main(["convert", str(TINY), str(tmp_path / "a"), "--to", "gguf"]) == 2
    assert "pip install 'mistral-edu[gguf]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_place_that_takes_no_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=0, free=0))
    with pytest.raises(PermissionError, match="a.gguf cannot be written in .*: choose another"):
        export(TINY, tmp_path / "a.gguf")


def test_the_command_says_that_a_file_without_tokens_has_none(tmp_path, capsys):
    small_model().save_pretrained(tmp_path)
    words = ["convert", str(tmp_path), str(tmp_path / "a.gguf"), "--to", "gguf"]
    assert cli.main(words) == 0
    assert "The source has no tokenizer.model" in capsys.readouterr().out
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "give --overwrite to replace it" in said and "=True" not in said


@pytest.mark.parametrize(
    "words",
    [["generate", "hi", "--model"], ["verify"], ["convert", "T", "--to", "original"]],
)
def test_a_gguf_file_is_written_and_not_read(tmp_path, capsys, words):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    where = 1 if words[0] == "convert" else len(words)
    assert cli.main([*words[:where], str(path), *words[where:]]) == 2
    assert "GGUF is written here and not read: give the folder" in capsys.readouterr().err


def test_the_command_writes_the_file(tmp_path, capsys):
    target = tmp_path / "tiny.gguf"
    assert cli.main(["convert", str(TINY), str(target), "--to", "gguf"]) == 0
    said = capsys.readouterr().out
    assert f"{target.stat().st_size:,} bytes" in said and "no tokenizer" not in said
    assert cli.main(["convert", str(TINY), str(target), "--to", "gguf", "--pth"]) == 2
    assert "--pth" in capsys.readouterr().err


# ── llama.cpp itself ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def through_llama_cpp(tmp_path_factory):
    """The tiny model in llama.cpp, in float32."""
    llama_cpp_peer = pytest.importorskip("mistral_edu.bench.llama_cpp_peer")
    reason = llama_cpp_peer.why_absent(torch.device("cpu"))
    if reason:
        pytest.skip(reason)
    path = export(TINY, tmp_path_factory.mktemp("gguf"), torch.float32)
    opened = llama_cpp_peer.LlamaCpp(path, torch.float32, threads=1)
    yield opened
    opened.close()


def test_llama_cpp_reads_text_as_the_same_ids(through_llama_cpp):
    tokenizer = MistralTokenizer.from_pretrained(TINY)
    for text in ("In the valley the miller", "  two spaces — ☔ and 7", "<s>", ""):
        ids = through_llama_cpp.vocabulary.tokenize(text, True, False)
        assert ids == tokenizer.encode(text), text


@torch.no_grad()
def test_llama_cpp_continues_a_text_as_we_do_inside_the_window(through_llama_cpp):
    model, tokenizer = load("tiny")
    model = model.float()
    prompt = torch.tensor([tokenizer.encode("In the valley the miller")])
    new = model.config.sliding_window - prompt.shape[1]
    ids = model.generate(prompt, max_new_tokens=new)
    expected = ids[0, prompt.shape[1] :].tolist()  # as far as the end of the text
    session = through_llama_cpp.session(batch=1, longest=64)
    session.start(prompt)
    written = [int(session.logits().argmax())]
    while len(written) < len(expected):
        session.step(torch.tensor(written[-1:]))
        written.append(int(session.logits().argmax()))
    session.close()
    assert len(expected) >= 20 and written == expected
