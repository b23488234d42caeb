"""Two and four processes compute what one computes, each with its part of weights and cache."""

import multiprocessing
import socket
import sys
from pathlib import Path

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM
from mistral_edu.parallel import rank_config
from mistral_edu.weights.convert import convert
from mistral_edu.weights.rank_shards import own_part
from tests import parallel_worker
from tests.models import difference, small_model
from tests.parallel_worker import RANKS, WINDOW, answers

GROUPED = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 68,
    "vocab_size": 67,  # of which the last rank gets less
    "sliding_window": WINDOW,
}
TIED = {  # and as many key/value heads as heads, together wider than the residual stream
    **GROUPED,
    "num_key_value_heads": 8,
    "head_dim": 6,
    "tie_word_embeddings": True,
    "sliding_window": None,
}
CASES = {"grouped": GROUPED, "tied": TIED}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The checkpoints that the ranks read."""
    folder = tmp_path_factory.mktemp("parallel")
    for name, fields in CASES.items():
        small_model(**fields).save_pretrained(folder / name)
    convert(folder / "grouped", folder / "original", "original", progress=False)
    small_model(**GROUPED).save_pretrained(folder / "half", dtype=torch.float16)
    small_model(num_key_value_heads=1).save_pretrained(folder / "one head")
    return folder


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    """What each of four processes found, in a group of four and in one of two."""
    # A server that has imported everything once, and forks; Windows must start each anew.
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload([parallel_worker.__name__])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        context.Process(target=parallel_worker.run, args=(folder, rank, port))
        for rank in range(RANKS)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=300)
        process.kill()
    assert [process.exitcode for process in ranks] == [0] * RANKS
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.fixture(params=[2, 4])
def group(request, found) -> list[dict]:
    """What the ranks of one group found."""
    return [each[request.param] for each in found[: request.param]]


@pytest.fixture(scope="module")
def alone(folder) -> dict[str, MistralForCausalLM]:
    """Each checkpoint in one process: the oracle."""
    return {
        name: MistralForCausalLM.from_pretrained(
            folder / name, dtype=torch.float32, attention="eager"
        )
        for name in (*CASES, "original", "half")
    }


def sizes(model: MistralForCausalLM) -> tuple[int, int]:
    """Bytes of the weights that every rank has whole, and of those that are cut."""
    whole = 4 * sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    return whole, 4 * model.num_parameters() - whole


@pytest.mark.parametrize("case", CASES)
def test_every_rank_has_the_logits_of_one_process(group, alone, case):
    for name, expected in answers(alone[case]).items():
        for rank in group:
            given = rank[case]["answers"][name]
            if expected.is_floating_point():
                assert difference(given, expected) <= 1e-5, name
            else:
                assert torch.equal(given, expected), name


@pytest.mark.parametrize("case", CASES)
def test_the_parts_of_all_ranks_are_the_model_and_about_equal(group, alone, case):
    whole, cut = sizes(alone[case])
    held = [rank[case]["bytes"] - whole for rank in group]
    assert sum(held) == cut
    assert all(abs(len(group) * part - cut) <= 0.05 * cut for part in held)
    # Nor does a rank keep a whole tensor alive behind its part.
    assert [rank[case]["storage"] for rank in group] == [part + whole for part in held]


@pytest.mark.parametrize("case", CASES)
def test_loading_looks_at_nothing_but_the_part(group, alone, case):
    whole, _ = sizes(alone[case])
    for rank in group:
        assert rank[case]["looked at"] == rank[case]["bytes"] - whole


@pytest.mark.parametrize("case", ["original", "half"])
def test_other_layouts_and_types_are_read_too(group, alone, case):
    with torch.no_grad():
        expected = alone[case](torch.tensor([[1, 5, 9, 3, 7, 8]])).logits
    for rank in group:
        assert difference(rank[case], expected) <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_a_cache_holds_the_key_value_heads_of_its_rank_only(group, alone, case):
    expected = alone[case](torch.tensor([[1, 5, 9]]), use_cache=True).past_key_values
    for rank in group:
        assert rank[case]["cached heads"] * len(group) == CASES[case]["num_key_value_heads"]
        assert rank[case]["cache bytes"] * len(group) == expected.nbytes


def test_logits_are_plain_tensors_that_wait_for_nothing(group):
    assert {rank[case]["type"] for rank in group for case in CASES} == {"Tensor"}


def test_ranks_talk_twice_a_layer_and_at_both_ends(group):
    for rank in group:
        assert rank["grouped"]["talks"] == {"all_reduce": 2 * 2 + 1, "all_gather_into_tensor": 1}


def test_key_value_heads_that_cannot_be_shared_out_are_refused(group):
    for rank in group:
        assert rank["refusal"].startswith(
            f"num_key_value_heads=1 is not divisible by the number of ranks, {len(group)}"
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_key_value_heads": 2}, r"heads=2 is .* ranks, 4: .*one of \[1, 2\] processes"),
        ({"intermediate_size": 14334}, r"intermediate_size=14334 is .* ranks, 4"),
        ({"pruned_heads": {0: [1]}}, r"pruned_heads=\{0: .*one process"),
    ],
)
def test_a_refusal_names_the_numbers(fields, message):
    with pytest.raises(ValueError, match=message):
        rank_config(MistralConfig(**fields), ranks=4)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9, 67])
@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_parts_of_a_matrix_join_to_it_and_copy_nothing(length, ranks, axis):
    whole = torch.arange(3 * length).view(3, length).movedim(1, axis)
    parts = [own_part(whole, axis, rank, ranks) for rank in range(ranks)]
    assert torch.equal(torch.cat(parts, dim=axis), whole)
    assert all(p.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr() for p in parts)
