"""Loading takes the memory of the weights and little more; here small, at 2 GB by hand."""

import pytest

pytest.importorskip("resource", reason="Windows does not report a process's peak")

from tests.loading_memory import LIMIT, config_of, measure


@pytest.mark.parametrize("cast", [False, True], ids=["as stored", "cast"])
def test_loading_takes_little_more_than_the_checkpoint(cast):
    found = measure(100, cast)
    assert 90e6 < found["checkpoint"] < 110e6
    assert 0.9 < found["ratio of loading"] < LIMIT, found


@pytest.mark.parametrize("bits", [8, 4])
def test_rounding_while_loading_takes_little_more_than_what_is_left(bits):
    found = measure(500, bits=bits)
    assert found["weights"] < 0.55 * found["checkpoint"]
    assert found["ratio of loading"] < LIMIT, found


@pytest.mark.parametrize("megabytes", [50, 100, 2000])
def test_the_synthetic_model_has_about_the_size_asked_for(megabytes):
    assert config_of(megabytes).num_hidden_layers > 4
