"""Streamers: text in whole characters, progress in steps, and an end that always comes."""

import pytest
import torch

from mistral_edu import MistralTokenizer
from mistral_edu.streamers import ProgressStreamer, Streamer, TextStreamer
from tests.models import random_ids, small_model


@pytest.fixture(scope="module")
def tokenizer():
    return MistralTokenizer.mistral_v1()


def written(tokenizer, ids, **options):
    """The pieces a TextStreamer writes for ids that arrive one at a time."""
    pieces = []
    streamer = TextStreamer(tokenizer, pieces.append, **options)
    for token in ids:
        streamer.put(torch.tensor([token]))
    streamer.end()
    return pieces


@pytest.mark.parametrize("text", ["Hello 👩 world", " two  spaces", "☔☔", "naïve\n\ncafé", ""])
def test_the_pieces_joined_are_the_text_and_none_is_half_a_character(tokenizer, text):
    pieces = written(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_without_an_end_are_shown_at_the_end(tokenizer):
    half = tokenizer.encode("👩")[:-1]
    assert "".join(written(tokenizer, half)) == "\ufffd" * 3


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_continuation_is_written_as_it_follows_its_prompt(tokenizer, cut):
    ids = tokenizer.encode("Hello there, 👩 and more")
    prompt, rest = ids[:cut], ids[cut:]
    shown = tokenizer.decoder()
    before = "".join(map(shown.add, prompt))
    assert before + "".join(written(tokenizer, rest, prompt=prompt)) == tokenizer.decode(ids)


def test_a_text_streamer_refuses_a_batch(tokenizer):
    with pytest.raises(ValueError, match="the batch has 2"):
        small_model().generate(
            random_ids(small_model(), 2, 3), streamer=TextStreamer(tokenizer, print)
        )


class Recorder:
    """A streamer, and a progress bar, that remembers what it was told."""

    def __init__(self, interrupt_at=None):
        self.told, self.interrupt_at = [], interrupt_at

    def put(self, tokens):
        if len(self.told) == self.interrupt_at:
            raise KeyboardInterrupt
        self.told.append(tokens.tolist())

    def end(self):
        self.told.append("end")

    def update(self, steps):
        self.told.append(steps)

    close = end


def test_a_streamer_is_told_each_step_and_one_end():
    model, recorder = small_model(), Recorder()
    assert isinstance(recorder, Streamer)
    found = model.generate(
        random_ids(model, 2, 3), max_new_tokens=4, eos_token_id=(), streamer=recorder
    )
    assert recorder.told == [*found[:, 3:].T.tolist(), "end"]


def test_the_end_comes_after_an_interrupt_too():
    model, recorder = small_model(), Recorder(interrupt_at=2)
    with pytest.raises(KeyboardInterrupt):
        model.generate(random_ids(model, 1, 3), eos_token_id=(), streamer=recorder)
    assert len(recorder.told) == 3 and recorder.told[-1] == "end"


def test_the_end_comes_where_nothing_is_made():
    recorder = Recorder()
    small_model().generate(random_ids(small_model(), 1, 3), max_new_tokens=0, streamer=recorder)
    assert recorder.told == ["end"]


def test_progress_counts_steps_and_closes():
    model, bar = small_model(), Recorder()
    streamer = ProgressStreamer(total=5, bar=bar)
    model.generate(random_ids(model, 3, 3), max_new_tokens=5, eos_token_id=(), streamer=streamer)
    assert bar.told == [1, 1, 1, 1, 1, "end"]


def test_progress_without_a_bar_of_ones_own_shows_tqdms(capfd):
    streamer = ProgressStreamer(total=3)
    streamer.put(torch.tensor([5]))
    streamer.end()
    assert "1/3" in capfd.readouterr().err
