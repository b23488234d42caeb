"""The sweeps of lesson 13: the right one is right, and each mistake shows in the solution."""

import pytest
import torch

from mistral_edu.course import lesson_13_probe as lesson
from mistral_edu.sliding_window import visible

BROKEN = (
    lesson.NeverRescales,
    lesson.OneKeyTooMany,
    lesson.SkipsTheCutTile,
    lesson.MasksByPlaceInTile,
)


@pytest.mark.parametrize(("window", "tile"), [*lesson.SIZES, (1, 1), (3, 8), (20, 4)])
def test_the_right_sweep_is_the_plain_softmax(window, tile):
    scores, values = 3 * torch.randn(13).double(), torch.randn(13).double()
    at = torch.arange(13)[None]
    hidden = scores.expand(13, 13).masked_fill(~visible(at, at, window)[0], -torch.inf)
    found = lesson.Sweep(window, tile).attend(scores.tolist(), values.tolist())
    torch.testing.assert_close(torch.tensor(found).double(), hidden.softmax(dim=1) @ values)


@pytest.mark.parametrize("kind", BROKEN)
def test_each_mistake_is_seen_by_the_solution_and_not_in_the_right_sweep(kind):
    assert lesson.exposes(lesson.probe, kind)
    assert not lesson.exposes(lesson.probe, lesson.Sweep)


def test_no_mistake_shows_in_a_text_of_one_token():
    assert not any(lesson.exposes(lambda window, tile: ([1.0], [1.0]), kind) for kind in BROKEN)
