"""A checkpoint of many files: an index that lies, shards that lead away, and what is allowed."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mistral_edu.weights.checkpoint import INDEX_FILE, SINGLE_FILE, inside, open_safetensors
from mistral_edu.weights.errors import WeightsError

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PLACES = {"a": ONE, "b": ONE, "c": TWO}


def write_index(folder, places, **more):
    index = {"metadata": {"total_size": 1}, "weight_map": places, **more}
    (folder / INDEX_FILE).write_text(json.dumps(index))


@pytest.fixture
def folder(tmp_path):
    """A sound checkpoint of two shards, in a folder of its own."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, folder / ONE)
    save_file({"c": torch.full((4,), 7.0)}, folder / TWO)
    write_index(folder, PLACES)
    return folder


def refusal(folder):
    with pytest.raises(WeightsError) as caught:
        open_safetensors(folder)
    return str(caught.value)


def test_shards_are_read_as_one_whatever_the_total_size_says(folder):
    """Published indices count tensors that no shard holds."""
    source = open_safetensors(folder)
    assert source.names() == ["a", "b", "c"]
    assert (source.shape("b"), source.dtype("b")) == ((3,), torch.float32)
    assert torch.equal(source.read("c"), torch.full((4,), 7.0))


def test_a_single_file_wins_over_an_index_as_in_transformers(folder):
    save_file({"z": torch.ones(1)}, folder / SINGLE_FILE)
    assert open_safetensors(folder).names() == ["z"]


def test_a_folder_with_neither_says_what_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds neither model.safetensors nor model.safe"):
        open_safetensors(tmp_path)


LIES = {
    "a tensor that its shard lacks": ({**PLACES, "d": TWO}, [f"d: is not in {TWO}"]),
    "a tensor in the other shard": (
        {**PLACES, "a": TWO},
        [f"a: is not in {TWO}", f"a: is in {ONE}, but the index does not place it there"],
    ),
    "a tensor left out": (
        {"a": ONE, "c": TWO},
        [f"b: is in {ONE}, but the index does not place it there"],
    ),
    "a shard that is missing": (
        {**PLACES, "d": "model-00003-of-00003.safetensors"},
        ["model-00003-of-00003.safetensors: the file is missing"],
    ),
    "two lies": ({**PLACES, "d": TWO, "e": ONE}, [f"d: is not in {TWO}", f"e: is not in {ONE}"]),
}


@pytest.mark.parametrize(("places", "lines"), LIES.values(), ids=LIES.keys())
def test_an_index_that_lies_is_refused_with_every_lie(folder, places, lines):
    write_index(folder, places)
    message = refusal(folder)
    assert "and its shards disagree" in message
    assert all(f"\n  {line}" in message for line in lines), message


def test_one_tensor_in_two_shards_is_refused(folder):
    save_file({"c": torch.ones(4), "a": torch.ones(2)}, folder / TWO)
    assert f"a: is in {TWO}, but the index does not place it there" in refusal(folder)


def test_a_shard_that_is_damaged_is_named(folder):
    (folder / TWO).write_bytes((folder / TWO).read_bytes()[:-1])
    assert f"{TWO} is damaged" in refusal(folder)


def test_a_thousand_disagreements_are_counted_and_twenty_shown(folder):
    write_index(folder, PLACES | {f"x{i}": ONE for i in range(1000)})
    message = refusal(folder)
    assert message.count("\n") == 21 and "… and 980 more" in message


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/outside.safetensors",
        "sub/inside.safetensors",
        "..\\outside.safetensors",
        "C:\\outside.safetensors",
        "C:outside.safetensors",
        "\\\\host\\share\\outside.safetensors",
        "outside.safetensors\0",
        "outside.safetensors\n",
        "pytorch_model.bin",
        "model.safetensors.index.json",
        ".safetensors ",
        "",
        ".",
        "..",
    ],
)
def test_a_shard_name_that_is_no_plain_file_name_is_refused_even_if_there_is_such_a_file(
    folder, name
):
    (folder / "sub").mkdir()
    for place in (folder.parent / "outside.safetensors", folder / "sub" / "inside.safetensors"):
        save_file({"d": torch.ones(1)}, place)
    write_index(folder, {**PLACES, "d": name})
    assert "is not the plain name of a .safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": ["a"]}', "has no weight_map"),
        ('{"weight_map": {"a": 1}}', "'1' is not the plain name"),
        ('{"weight_map": {"a": ["b"]}}', "is not the plain name"),
        ('{"weight_map": {"a": null}}', "'None' is not the plain name"),
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "'a' occurs twice"),
        ('{"weight_map": {"a": {"weight_map": ' * 9999, "is not valid JSON"),
        ("[]", "holds a list, expected a JSON object"),
    ],
)
def test_an_index_that_is_none_is_refused(folder, text, said):
    (folder / INDEX_FILE).write_text(text)
    assert said in refusal(folder)


def link(path, target):
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(target)
    except OSError as error:
        pytest.skip(f"this system makes no links: {error}")


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("name", [ONE, INDEX_FILE, SINGLE_FILE])
def test_a_link_out_of_the_folder_is_refused(folder, name, absolute):
    outside = folder.parent / "outside"
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, outside)
    link(folder / name, outside if absolute else "../outside")
    assert f"{name} is a link to {outside}, outside the folder" in refusal(folder)


def test_a_link_within_the_folder_and_a_folder_that_is_a_link_are_fine(folder):
    (folder / ONE).rename(folder / "data")
    link(folder / ONE, "data")
    link(folder.parent / "alias", folder)
    assert open_safetensors(folder.parent / "alias").names() == ["a", "b", "c"]


def test_a_link_to_itself_is_refused(folder):
    link(folder / ONE, ONE)
    assert "cannot be followed" in refusal(folder)


def test_a_link_to_nothing_is_a_missing_shard(folder):
    link(folder / ONE, "gone")
    assert f"{ONE}: the file is missing" in refusal(folder)


@pytest.fixture
def cached(folder):
    """The checkpoint as the hub's cache keeps it: snapshots/<commit>/name → ../../blobs/<hash>."""
    repository = folder.parent / "cache" / "models--valley--mill"
    snapshot, blobs = repository / "snapshots" / "0123abcd", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:064x}")
        link(snapshot / path.name, f"../../blobs/{number:064x}")
    return snapshot


def test_the_hub_cache_s_own_links_are_fine(cached):
    assert open_safetensors(cached).names() == ["a", "b", "c"]


@pytest.mark.parametrize("target", ["../../outside", "../../../outside", "../other/outside"])
def test_in_the_cache_too_no_other_link_is_followed(cached, target):
    outside = cached / target
    outside.parent.mkdir(exist_ok=True)
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, outside)
    link(cached / ONE, target)
    assert "outside the folder" in refusal(cached)


def test_a_blob_that_is_itself_a_link_out_is_refused(cached):
    outside = cached.parents[2] / "outside"
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, outside)
    link(cached.parents[1] / "blobs" / "evil", outside)
    link(cached / ONE, "../../blobs/evil")
    assert "outside the folder" in refusal(cached)


def test_blobs_beside_a_folder_that_is_no_snapshot_are_outside(cached):
    renamed = cached.parent.with_name("pictures")
    cached.parent.rename(renamed)
    with pytest.raises(WeightsError, match="outside the folder"):
        inside(renamed / cached.name, ONE)
