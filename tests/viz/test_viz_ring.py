"""The slot inspector: what a real rolling cache holds, against a plain dictionary."""

import numpy as np
import pytest
import torch

from mistral_edu.rolling_cache import RollingCache
from mistral_edu.sliding_window import visible
from mistral_edu.viz import RingFrame, explore_ring, figure, replay, ring_frame, ring_steps


def chunks_of(prompt: int, chunk: int, new_tokens: int) -> list[list[int]]:
    """The chunks of a run, spelled out."""
    whole = list(range(prompt))
    fed = [whole[start : start + chunk] for start in range(0, prompt, chunk)]
    return fed + [[position] for position in range(prompt, prompt + new_tokens)]


@pytest.mark.parametrize("window", [1, 3, 4, 8])
@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 12])
def test_every_step_agrees_with_a_dictionary_of_slots(window: int, chunk: int) -> None:
    slots: dict[int, int] = {}
    chunks = chunks_of(9, chunk, 4)
    for step, arriving in enumerate(chunks, start=1):
        before = dict(slots)
        slots.update({position % window: position for position in arriving})
        frame = ring_frame(window, prompt=9, chunk=chunk, step=step, new_tokens=4)
        moment = frame.moment
        assert moment.after.tolist() == [slots.get(slot, -1) for slot in range(window)]
        assert frame.evicted.tolist() == sorted(
            old for slot, old in before.items() if slots[slot] != old
        )
        assert moment.unrolled.tolist() == sorted(slots.values())
        newest = max(slots.values())
        ages = [newest - slots[slot] if slot in slots else -1 for slot in range(window)]
        assert moment.ages.tolist() == ages
        assert moment.next_slot == (newest + 1) % window
        assert frame.unstored.tolist() == arriving[: max(0, len(arriving) - window)]
    assert len(chunks) == ring_steps(9, chunk, 4)


@pytest.mark.parametrize("chunk", [2, 4, 7])
def test_a_chunk_is_offered_everything_held_before_it_and_itself(chunk: int) -> None:
    moments = list(replay(4, chunks_of(14, chunk, 0)))
    for earlier, moment in zip(moments, moments[1:], strict=False):
        held = earlier.after[earlier.after >= 0].tolist()
        assert moment.offered.tolist() == held + moment.arriving.tolist()


def seen_by(frame: RingFrame) -> list[int]:
    """Every key that the rule shows to some query of the chunk, whatever the cache holds."""
    queries, everything = torch.tensor(frame.moment.arriving)[None], torch.arange(frame.seen)[None]
    return visible(queries, everything, frame.window)[0].any(dim=0).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("window", [1, 2, 4, 8])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 12])
def test_the_keys_listed_are_those_that_the_rule_shows(window: int, chunk: int) -> None:
    for step in range(1, ring_steps(9, chunk, 4) + 1):
        frame = ring_frame(window, prompt=9, chunk=chunk, step=step, new_tokens=4)
        shown = seen_by(frame)
        (axes,) = figure(frame).axes
        listed = next(t.get_text() for t in axes.texts if t.get_text().startswith("sees "))
        numbers = listed.partition(": ")[2]
        assert [int(number) for number in numbers.split(", ")] == shown
        assert listed in frame.to_text()
        assert len(shown) == min(frame.seen, window - 1 + len(frame.moment.arriving))


def test_a_window_of_one_sees_only_itself() -> None:
    assert ring_frame(window=1, prompt=9, chunk=1, step=3).sees == "sees 1 key: 2"


def test_the_empty_ring_comes_first() -> None:
    frame = ring_frame(window=3)
    assert frame.empty.all()
    assert not frame.written.any()
    assert frame.title == "An empty ring: 3 slots reserved once, nothing held yet"


def test_the_picture_shows_the_cache_even_when_the_cache_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = RollingCache.begin

    def shifted(cache, positions):
        step = honest(cache, positions)
        step.slots.add_(1).remainder_(cache.slot_count)
        return step

    monkeypatch.setattr(RollingCache, "begin", shifted)
    assert ring_frame(window=4, prompt=3, chunk=3, step=1).moment.after.tolist() == [-1, 0, 1, 2]


def test_the_text_is_the_table_of_slots() -> None:
    assert ring_frame(window=3, prompt=4, chunk=4, step=2).to_text().splitlines() == [
        "Step 2: position 4 → slot 1, evicting position 1",
        "slot  held before  holds now  age (tokens)    this step",
        "   0            3          3             1         kept",
        "   1            1          4             0  overwritten",
        "   2            2          2             2         kept",
        "chunk: 4",
        "sees 3 keys: 2, 3, 4",
        "unrolled, oldest first: 2, 3, 4",
    ]


def test_the_summary_carries_the_numbers() -> None:
    assert ring_frame(window=4, prompt=6, chunk=3, step=2).summary == (
        "A ring of 4 slots after step 2 of 10, prompt. Arriving: positions 3, 4, 5; together they "
        "see 6 keys, 0, 1, 2, 3, 4 and 5. Evicted: 0 and 1. Slot by slot the ring now holds 4, 5, "
        "2 and 3; in the order of the text, 2, 3, 4 and 5."
    )


def test_what_is_hatched_is_what_is_not_held() -> None:
    frame = ring_frame(window=4, prompt=9, chunk=9, step=1)
    (axes,) = figure(frame).axes
    hatched = [box for box in axes.patches if box.get_hatch()]
    gone = set(range(frame.seen)) - set(frame.moment.unrolled.tolist())
    assert len(hatched) == 2 * len(gone)  # Once in the chunk, once in the sequence.
    assert any("hatched: not held" in text.get_text() for text in axes.texts)


def test_the_picture_says_in_words_what_its_colours_say() -> None:
    (axes,) = figure(ring_frame(window=4, prompt=6, chunk=3, step=2)).axes
    words = [text.get_text() for text in axes.texts]
    assert {f"age {age}" for age in range(4)} <= set(words)
    slots = [text for text in words if text.startswith("slot ") and text[5].isdigit()]
    assert slots == ["slot 0\nevicts 0", "slot 1\nevicts 1", "slot 2\n▲ next", "slot 3"]
    outlined = [box for box in axes.patches if box.get_linewidth() == 3]
    assert len(outlined) == 3


@pytest.mark.parametrize("name", ["window", "prompt", "chunk", "step"])
@pytest.mark.usefixtures("undrawn")
def test_every_control_moves_over_its_whole_range(name: str) -> None:
    explorer = explore_ring(step=10)
    control = explorer.controls[name]
    for value in range(control.min, control.max + 1):
        control.value = value
        assert explorer.frame.summary == ring_frame(**explorer.values).summary
        assert explorer.controls["step"].max == explorer.frame.steps


@pytest.mark.usefixtures("undrawn")
def test_fewer_steps_pull_the_step_back_inside() -> None:
    explorer = explore_ring(window=4, prompt=6, chunk=1, step=14)
    explorer.controls["chunk"].value = 6
    assert explorer.controls["step"].value == explorer.frame.step == 9


def test_a_change_that_moves_another_control_draws_once(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = explore_ring(window=4, prompt=6, chunk=1, step=14)
    drawn = []
    monkeypatch.setattr("mistral_edu.viz.explorer.figure", lambda frame: frame)
    monkeypatch.setattr(
        "mistral_edu.viz.explorer.figure_png", lambda frame: drawn.append(frame.step) or b""
    )
    explorer.controls["chunk"].value = 6
    assert drawn == [9]


@pytest.mark.usefixtures("undrawn")
def test_buttons_walk_the_run_and_stop_at_its_ends() -> None:
    explorer = explore_ring(window=4, prompt=6, chunk=3)
    walked = []
    for name in ("Back", "Next", "Next", "Back", "Last", "Next", "First"):
        explorer.stepper.buttons[name].click()
        walked.append(explorer.frame.step)
    assert walked == [0, 1, 2, 1, 10, 10, 0]


@pytest.mark.usefixtures("undrawn")
def test_play_runs_the_clock_and_any_other_button_stops_it() -> None:
    explorer = explore_ring()
    stepper = explorer.stepper
    stepper.buttons["Play"].click()
    assert stepper.clock.playing
    assert stepper.buttons["Play"].description == "Pause"
    stepper.clock.value = 3
    assert explorer.frame.step == 3
    stepper.buttons["Next"].click()
    assert not stepper.clock.playing
    assert stepper.buttons["Play"].description == "Play"


def test_steps_outside_the_run_are_refused() -> None:
    with pytest.raises(ValueError, match=r"step=11 is not in 0 \.\. 10"):
        ring_frame(step=11)
    with pytest.raises(ValueError, match="window=0"):
        ring_frame(window=0)


def test_a_frame_owns_its_numbers() -> None:
    first = ring_frame(step=1).moment.after.copy()
    ring_frame(step=5)
    assert np.array_equal(ring_frame(step=1).moment.after, first)
