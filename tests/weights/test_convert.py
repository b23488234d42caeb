"""Conversion: bit for bit both ways, never twice, and all of it or nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, MistralModel, cli, load
from mistral_edu.paths import data_dir
from mistral_edu.rope import rotate_halves, rotate_pairs, rotation
from mistral_edu.weights import WeightsError
from mistral_edu.weights.convert import convert
from mistral_edu.weights.model_folder import open_model_folder
from mistral_edu.weights.names import entries
from mistral_edu.weights.original import load_original
from tests.models import random_ids, small_model

TOKENIZER = data_dir() / "tiny" / "tokenizer.model"


@pytest.fixture
def saved(tmp_path):
    """A model in Hugging Face's layout with a tokenizer: its folder, and the model."""
    return save(small_model(), tmp_path / "hugging-face"), small_model()


def save(model, folder, **options):
    model.save_pretrained(folder, **options)
    (folder / "tokenizer.model").write_bytes(TOKENIZER.read_bytes())
    return folder


def stored(folder):
    """Every tensor of a folder, by its stored name."""
    source = open_model_folder(folder).source
    return {name: source.read(name).clone() for name in source.names()}


def listing(folder):
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


# ── there and back ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pth", [False, True], ids=["safetensors", "pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_there_and_back_is_bit_for_bit_the_same(tmp_path, pth, dtype):
    model = small_model(num_key_value_heads=2, max_position_embeddings=32768)
    first = save(model, tmp_path / "first", dtype=dtype)
    convert(first, tmp_path / "original", to="original", pth=pth)
    convert(tmp_path / "original", tmp_path / "second", to="hugging-face")
    convert(tmp_path / "second", tmp_path / "again", to="original", pth=pth)
    assert same(stored(first), stored(tmp_path / "second"))
    assert listing(tmp_path / "original") == listing(tmp_path / "again")
    assert (tmp_path / "second" / "tokenizer.model").read_bytes() == TOKENIZER.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4},
        {"sliding_window": None, "rope_theta": 1e6},
        {"tie_word_embeddings": True},
        {"head_dim": 16},
        {"rms_norm_eps": 1e-3},
    ],
)
def test_a_model_loaded_from_either_layout_gives_equal_logits(tmp_path, changes):
    model = small_model(**changes)
    first = save(model, tmp_path / "first")
    convert(first, tmp_path / "original", to="original")
    convert(tmp_path / "original", tmp_path / "second", to="hugging-face")
    ids = random_ids(model, 2, 13)
    expected = model(ids).logits
    for folder in ("first", "original", "second"):
        again = MistralForCausalLM.from_pretrained(tmp_path / folder, attention="eager")
        assert torch.equal(again(ids).logits, expected), folder
    assert torch.equal(
        load_original(tmp_path / "original", attention="eager")(ids).logits, expected
    )


def test_load_takes_the_folder_of_the_original_with_its_tokenizer(tmp_path):
    convert(data_dir() / "tiny", tmp_path / "tiny", to="original")
    model, tokenizer = load(tmp_path / "tiny")
    expected, _ = load("tiny")
    ids = torch.tensor([tokenizer.encode("The miller walks")])
    assert torch.equal(model(ids).logits, expected(ids).logits)
    bare = MistralModel.from_pretrained(tmp_path / "tiny")
    assert torch.equal(bare.norm.weight.float(), expected.model.norm.weight)


def test_transformers_loads_what_we_converted_without_a_warning(tmp_path, saved, caplog):
    import transformers

    folder, model = saved
    convert(folder, tmp_path / "original", to="original", pth=True)
    convert(tmp_path / "original", tmp_path / "back", to="hugging-face")
    fields = json.loads((tmp_path / "back" / "config.json").read_text())
    assert fields["architectures"] == ["MistralForCausalLM"] and fields["dtype"] == "float32"
    transformers.utils.logging.enable_propagation()  # otherwise its warnings reach nobody here
    try:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "back", attn_implementation="eager"
        )
    finally:
        transformers.utils.logging.disable_propagation()
    assert type(theirs).__name__ == "MistralForCausalLM" and not caplog.records
    ids = random_ids(model, 1, 13)
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, model(ids).logits, atol=1e-4)


def test_a_sharded_checkpoint_converts(tmp_path):
    model = small_model()
    folder = save(model, tmp_path / "sharded", max_shard_bytes=20_000)
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    convert(folder, tmp_path / "original", to="original")
    ids = random_ids(model, 1, 5)
    assert torch.equal(load_original(tmp_path / "original", attention="eager")(ids).logits,
                       model(ids).logits)  # fmt: skip


def test_weights_are_cast_on_the_way(tmp_path, saved):
    folder, model = saved
    convert(folder, tmp_path / "half", to="original", dtype=torch.bfloat16)
    halves = stored(tmp_path / "half")
    assert {tensor.dtype for tensor in halves.values()} == {torch.bfloat16}
    assert torch.equal(halves["norm.weight"], model.model.norm.weight.bfloat16())


def test_within_hugging_face_s_layout_the_files_beside_the_weights_come_along(tmp_path, saved):
    folder, _ = saved
    (folder / "generation_config.json").write_text("{}")
    convert(folder, tmp_path / "half", to="hugging-face", dtype=torch.float16)
    assert (tmp_path / "half" / "generation_config.json").read_text() == "{}"
    convert(folder, tmp_path / "original", to="original")
    assert not (tmp_path / "original" / "generation_config.json").exists()


# ── the permutation (trap 17) ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_pairs_on_the_original_weights_score_as_halves_on_the_converted_ones(tmp_path, shared):
    """Each layout with its own rotation, from the files alone: equal scores for every head."""
    model = small_model(num_key_value_heads=shared)
    convert(save(model, tmp_path / "a"), tmp_path / "b", to="original")
    theirs, ours = stored(tmp_path / "b"), stored(tmp_path / "a")
    x = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0))
    at = torch.arange(9)[None] * 7
    turn = rotation(at, head_dim=8, theta=model.config.rope_theta)

    def scores(q, k, rotate):
        q = rotate((x @ q.T).unflatten(-1, (4, 8)).transpose(1, 2), *turn)
        k = rotate((x @ k.T).unflatten(-1, (shared, 8)).transpose(1, 2), *turn)
        return q @ k.repeat_interleave(4 // shared, dim=1).transpose(-1, -2)

    layer = "layers.1.attention."
    pairs = scores(theirs[layer + "wq.weight"], theirs[layer + "wk.weight"], rotate_pairs)
    layer = "model.layers.1.self_attn."
    halves = scores(ours[layer + "q_proj.weight"], ours[layer + "k_proj.weight"], rotate_halves)
    assert torch.allclose(pairs, halves, atol=1e-4)
    wrong = scores(ours[layer + "q_proj.weight"], ours[layer + "k_proj.weight"], rotate_pairs)
    assert not torch.allclose(wrong, halves, atol=0.1)  # the test would notice


def test_only_q_and_k_are_reordered_and_k_by_its_own_heads(tmp_path, saved):
    folder, model = saved
    convert(folder, tmp_path / "original", to="original")
    ours, theirs = stored(folder), stored(tmp_path / "original")
    for entry in entries(model.config):
        tensor = ours[entry.hugging_face]
        own_heads = {"q_proj": 4, "k_proj": 2}.get(entry.hugging_face.split(".")[-2])
        if own_heads:  # written out: row 2i ← row i, row 2i + 1 ← row i + D/2
            heads = tensor.unflatten(0, (own_heads, 8))
            order = [0, 4, 1, 5, 2, 6, 3, 7]
            tensor = heads[:, order].flatten(0, 1)
        assert torch.equal(theirs[entry.original], tensor), entry.original


# ── refusals ────────────────────────────────────────────────────────────────────────────────────


def test_converting_twice_is_refused_and_writes_nothing(tmp_path, saved):
    folder, _ = saved
    convert(folder, tmp_path / "original", to="original")
    for source, layout in ((folder, "hugging-face"), (tmp_path / "original", "original")):
        with pytest.raises(ValueError, match=f"is in the {layout} layout already"):
            convert(source, tmp_path / "twice", to=layout)
    assert not (tmp_path / "twice").exists()


def test_the_layout_is_told_by_the_names_and_not_by_the_files(tmp_path, saved):
    """Converted weights under the original's file name are not permuted again."""
    folder, model = saved
    convert(folder, tmp_path / "original", to="original")
    (folder / "model.safetensors").rename(tmp_path / "original" / "consolidated.safetensors")
    ids = random_ids(model, 1, 9)
    again = load_original(tmp_path / "original", attention="eager")
    assert torch.equal(again(ids).logits, model(ids).logits)
    convert(tmp_path / "original", tmp_path / "b", to="original")
    assert torch.equal(
        load_original(tmp_path / "b", attention="eager")(ids).logits, model(ids).logits
    )


def test_a_target_that_holds_a_model_is_left_alone_unless_told(tmp_path, saved):
    folder, _ = saved
    other = save(small_model(seed=1), tmp_path / "other")
    target = tmp_path / "target"
    convert(other, target, to="original", pth=True)
    (target / "notes.txt").write_text("mine")
    before = listing(target)
    with pytest.raises(FileExistsError, match="holds a model already.*give overwrite=True"):
        convert(folder, target, to="original")
    assert listing(target) == before
    convert(folder, target, to="original", overwrite=True)
    assert sorted(listing(target)) == [
        "consolidated.safetensors",
        "notes.txt",
        "params.json",
        "tokenizer.model",
    ]
    convert(target, tmp_path / "back", to="hugging-face")
    assert same(stored(tmp_path / "back"), stored(folder))


def test_two_layouts_never_end_in_one_folder(tmp_path, saved):
    folder, _ = saved
    convert(folder, tmp_path / "original", to="original")
    before = listing(tmp_path / "original")
    with pytest.raises(FileExistsError, match="in the original layout, and two models"):
        convert(
            save(small_model(seed=1), tmp_path / "b"),
            tmp_path / "original",
            to="hugging-face",
            dtype=torch.float16,
            overwrite=True,
        )
    assert listing(tmp_path / "original") == before


def test_what_cannot_be_done_is_said_before_anything_is_written(tmp_path, saved, monkeypatch):
    folder, _ = saved
    target = tmp_path / "target"
    cases = [
        ({"to": "gguf"}, "to='gguf' is no layout"),
        ({"to": "original", "dtype": torch.int8}, "dtype=torch.int8, expected None or one of"),
        ({"to": "original", "key_value_heads": 3}, "num_key_value_heads=3 cannot be made"),
        ({"to": "original", "key_value_heads": 1, "pooling": "sum"}, "method='sum' is unknown"),
    ]
    for options, said in cases:
        with pytest.raises(ValueError, match=said):
            convert(folder, target, **options)
    with pytest.raises(FileExistsError, match="is the source itself"):
        convert(folder, folder, to="original")
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        convert(tmp_path, target, to="original")
    with pytest.raises(FileNotFoundError, match="/absent does not exist"):
        convert(tmp_path / "absent", target, to="original")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file, expected a folder"):
        convert(folder, tmp_path / "file", to="original")

    def disk(total, free):
        return types.SimpleNamespace(total=total, free=free)

    monkeypatch.setattr("shutil.disk_usage", lambda path: disk(10**9, 1000))
    with pytest.raises(OSError, match="the disk has 0.0 GB left"):
        convert(folder, target, to="original")
    monkeypatch.setattr("shutil.disk_usage", lambda path: disk(0, 0))
    with pytest.raises(PermissionError, match=f"target cannot be written in {tmp_path}: choose"):
        convert(folder, target, to="original")
    assert not target.exists()


def test_a_damaged_pth_is_found_before_anything_is_written(tmp_path, saved):
    folder, _ = saved
    convert(folder, tmp_path / "original", to="original", pth=True)
    path = tmp_path / "original" / "consolidated.00.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="Bad CRC-32"):
        convert(tmp_path / "original", tmp_path / "target", to="hugging-face")
    assert not (tmp_path / "target").exists()


def test_a_tokenizer_that_links_out_of_the_folder_is_not_copied(tmp_path, saved):
    folder, _ = saved
    (folder / "tokenizer.model").unlink()
    (tmp_path / "secret").write_text("secret")
    (folder / "tokenizer.model").symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="outside the folder"):
        convert(folder, tmp_path / "target", to="original")
    assert not (tmp_path / "target").exists()


# ── all of it or nothing ────────────────────────────────────────────────────────────────────────


class FullDisk:
    """An open file on a disk that has room for so many bytes."""

    room = 0

    def __init__(self, file):
        self.file = file

    def write(self, data):
        FullDisk.room -= len(memoryview(data).cast("B"))
        if FullDisk.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 100, 3000, 60_000])
@pytest.mark.parametrize("layout", ["original", "pth", "hugging-face"])
def test_a_full_disk_leaves_the_old_files_as_they_were(tmp_path, monkeypatch, room, layout):
    from contextlib import contextmanager

    from mistral_edu.weights import original, pth_writing, saving, whole_files

    options = {"to": layout.replace("pth", "original"), "pth": layout == "pth"}
    source, target = save(small_model(), tmp_path / "source"), tmp_path / "target"
    if layout == "hugging-face":
        convert(source, tmp_path / "original", to="original")
        source = tmp_path / "original"
        save(small_model(seed=1), target)
    else:
        convert(save(small_model(seed=1), tmp_path / "old"), target, **options)
    before = listing(target)
    real = whole_files.whole_file

    @contextmanager
    def on_a_full_disk(path):
        with real(path) as file:
            yield FullDisk(file)

    FullDisk.room = room
    for module in (saving, original, pth_writing):
        monkeypatch.setattr(module, "whole_file", on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        convert(source, target, overwrite=True, **options)
    assert listing(target) == before
    assert not any(path.is_dir() for path in target.iterdir())
    with pytest.raises(OSError, match="No space left"):
        convert(source, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("layout", ["original", "hugging-face"])
def test_ctrl_c_leaves_the_old_files_as_they_were(tmp_path, monkeypatch, layout):
    source, target = save(small_model(), tmp_path / "source"), tmp_path / "target"
    if layout == "hugging-face":
        convert(source, tmp_path / "original", to="original")
        source = tmp_path / "original"
        save(small_model(seed=1), target)
    else:
        convert(save(small_model(seed=1), tmp_path / "old"), target, to=layout)
    before = listing(target)
    from mistral_edu.weights.layouts import InLayout

    read, seen = InLayout.read, []

    def pressed(self, name):
        seen.append(name)
        if len(seen) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, name)

    monkeypatch.setattr(InLayout, "read", pressed)
    with pytest.raises(KeyboardInterrupt):
        convert(source, target, to=layout, overwrite=True)
    assert listing(target) == before
    assert not any(path.is_dir() for path in target.iterdir())


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def test_the_command_converts_both_ways_and_says_what_it_wrote(tmp_path, saved, capsys):
    folder, _ = saved
    original, back = tmp_path / "original", tmp_path / "back"
    assert cli.main(["convert", str(folder), str(original), "--to", "original"]) == 0
    said = capsys.readouterr().out
    assert "consolidated.safetensors" in said and "params.json" in said
    words = ["convert", str(original), str(back), "--to", "hugging-face", "--dtype", "float16"]
    assert cli.main([*words, "--key-value-heads", "1"]) == 0
    assert MistralConfig.from_pretrained(back).num_key_value_heads == 1
    assert MistralForCausalLM.from_pretrained(back).dtype == torch.float16
    assert "no tokenizer.model" not in capsys.readouterr().out


def test_the_command_says_what_is_missing_and_what_was_left_behind(tmp_path, saved, capsys):
    folder, _ = saved
    (folder / "tokenizer.model").unlink()
    (tmp_path / "o" / ".unfinished.1234").mkdir(parents=True)
    assert cli.main(["convert", str(folder), str(tmp_path / "o"), "--to", "original"]) == 0
    said = capsys.readouterr().out
    assert "no tokenizer.model" in said
    assert "An attempt that was killed left" in said and ".unfinished.1234" in said


def test_the_command_takes_the_course_s_models_by_name(tmp_path, capsys):
    words = ["convert", "tiny", str(tmp_path / "o"), "--to", "original"]
    assert cli.main(words) == 0
    capsys.readouterr()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "give --overwrite to replace it" in said and "=True" not in said


def test_weights_that_are_not_read_are_named_with_what_to_do(tmp_path):
    for name, said in (("pytorch_model.bin", "save_pretrained it again"), ("m.gguf", "GGUF is")):
        folder = tmp_path / name[:2]
        folder.mkdir()
        (folder / name).touch()
        with pytest.raises(FileNotFoundError, match=f"holds {name}.* {said}"):
            convert(folder, tmp_path / "o", to="original")
    (tmp_path / "a.pth").touch()
    with pytest.raises(FileNotFoundError, match="a.pth is a file: give the folder it is in"):
        convert(tmp_path / "a.pth", tmp_path / "o", to="original")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["/no/such/folder", "T", "--to", "original"], "/no/such/folder"),
        (["S", "T"], "--to"),
        (["S", "T", "--to", "pickle"], "'pickle'"),
        (["S", "T", "--to", "original", "--dtype", "int3"], "'int3'"),
        (["S", "T", "--to", "original", "--key-value-heads", "0"], "'0'"),
    ],
)
def test_a_mistake_is_named_on_one_line_with_status_2(words, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(["convert", *words])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2 and named in said and len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_killed_conversion_leaves_the_old_files_and_can_be_repeated(tmp_path, repository):
    """SIGKILL cannot be caught: the target still holds the old model, and a hidden folder."""
    big = {"hidden_size": 512, "vocab_size": 20000, "num_hidden_layers": 2}
    source = save(small_model(**big), tmp_path / "source")
    target = tmp_path / "target"
    convert(save(small_model(seed=1), tmp_path / "old"), target, to="original")
    before = stored(target)
    command = ["-m", "mistral_edu", "convert", str(source), str(target), "--to", "original"]
    process = subprocess.Popen([sys.executable, *command, "--overwrite"], cwd=repository)
    while not any(target.glob(".unfinished.*/.consolidated*")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert same(stored(target), before)
    convert(source, target, to="original", overwrite=True)
    assert len(stored(target)) == 21
