"""The soak command: it draws through the real loop, and would notice growth."""

from dataclasses import replace

from tests.soak import small_model, soak


def test_a_small_model_stays_flat_over_100_windows_and_growth_would_be_seen():
    report = soak(small_model(), tokens=1600)
    assert report.is_flat and report.tokens_in_cache == 1600
    for wrong in (
        {"cache_bytes": {1024, 2048}},
        {"resident_at_most": report.resident_after_warm_up + 9 * 2**20},
        {"tokens_in_cache": 16},
    ):
        assert not replace(report, **wrong).is_flat
