"""The engine writes what the plain model writes, however seldom anyone looks."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from mistral_edu import MistralForCausalLM, engine_steps, load
from mistral_edu.engine import Engine
from mistral_edu.generation_request import prepare
from mistral_edu.sampling import DamagedScoresError
from tests.fake_tokenizer import Letters
from tests.models import left_padded, random_config, random_ids, small_model
from tests.test_engine import prompts


def written(engine, look_every, ids, mask, **options):
    """Ids, log-probabilities and endings of each step when so many are made unseen."""
    request = prepare(engine, ids, mask, options=options)
    steps = list(engine_steps.steps(engine, request, look_every))
    return [(s.tokens.tolist(), s.logprobs, s.endings.tolist()) for s in steps]


RULES = [
    {},
    {"do_sample": True, "seed": 5, "temperature": 1.5, "top_p": 0.9, "min_new_tokens": 3},
    {"repetition_penalty": 1.5, "stop_sequences": [[7, 8], [9]]},
    {"do_sample": True, "seed": 5, "min_p": 0.5},
]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_ids_logprobs_and_reasons_equal_plain_generation(seed, rules):
    torch.manual_seed(seed)
    model = MistralForCausalLM(random_config(seed), attention="sdpa").eval()
    rows = (1, 3, 2, 4)[seed]
    ids, mask = prompts(model, rows, seed, longest=9)
    ends = list(range(10, 16))  # likely enough for rows to end at different times
    options = {"max_new_tokens": 14, "eos_token_id": ends, "pad_token_id": 3, **rules}
    expected = model.generate_with_details(ids, mask, **options)
    engine = Engine(model, rows, capacity=ids.shape[1] + 14)
    found = engine.generate_with_details(ids, mask, **options)
    assert torch.equal(found.sequences, expected.sequences)
    assert found.finish_reasons == expected.finish_reasons
    assert torch.allclose(found.logprobs, expected.logprobs, atol=1e-4)


@pytest.mark.parametrize("rules", RULES)
def test_how_often_anyone_looks_changes_nothing(rules):
    model = small_model()
    ids, mask = left_padded([random_ids(model, 1, n, seed=n)[0] for n in (1, 4, 6)])
    options = {"max_new_tokens": 13, "eos_token_id": [10, 11, 12, 13, 14, 15, 16], **rules}
    engine = Engine(model, 3)
    always = written(engine, 1, ids, mask, **options)
    assert len({step[2][0] for step in always}) > 1 or rules  # a row ends, and not all at once
    for look_every in (2, 5, 5, 13, 50):  # the same steps twice: they begin at the beginning
        seldom = written(engine, look_every, ids, mask, **options)
        assert [step[::2] for step in seldom] == [step[::2] for step in always]
        for one, other in zip(seldom, always, strict=True):
            assert torch.equal(one[1], other[1])


def test_a_step_is_made_only_if_its_token_is_wanted(monkeypatch):
    model, fed = small_model(), []
    engine = Engine(model)
    step = engine._passes.step
    monkeypatch.setattr(engine._passes, "step", lambda ids: fed.append(ids.tolist()) or step(ids))
    ids = random_ids(model, 1, 3)
    text = engine.generate(ids, max_new_tokens=4, eos_token_id=())
    assert fed == [[token] for token in text[0, 3:-1].tolist()]
    assert engine.generate(ids, max_new_tokens=0).shape == (1, 3)


def test_a_stream_gives_the_same_tokens_one_at_a_time():
    model, tokenizer = load("tiny")
    ids = torch.tensor([tokenizer.encode("It was a windy")])
    options = {"max_new_tokens": 30, "stop_strings": "he", "tokenizer": tokenizer}
    engine = Engine(model)
    tokens = [int(token) for token in engine.stream(ids, **options)]
    assert tokens == model.generate(ids, **options)[0, ids.shape[1] :].tolist()


def test_texts_that_take_anothers_place_are_noticed():
    model = small_model()
    engine, ids = Engine(model), random_ids(model, 1, 3)
    stream = engine.stream(ids, max_new_tokens=5, eos_token_id=())
    next(stream)
    engine.prefill(ids)
    with pytest.raises(RuntimeError, match="something else before these texts were read"):
        next(stream)
    stream = engine.stream(ids, max_new_tokens=5, eos_token_id=())
    next(stream)
    engine.step(torch.tensor([3]))
    with pytest.raises(RuntimeError, match="finish one first, or make a second engine"):
        next(stream)


def test_two_threads_do_not_mix_their_texts(monkeypatch):
    model = small_model()
    engine, ids, options = Engine(model), random_ids(model, 1, 3), {"max_new_tokens": 4}
    expected, is_in, may_go_on = model.generate(ids, **options), Event(), Event()
    step = engine._passes.step

    def slow(fed):
        is_in.set()
        assert may_go_on.wait(20)
        return step(fed)

    monkeypatch.setattr(engine._passes, "step", slow)
    with ThreadPoolExecutor(1) as other:
        found = other.submit(engine.generate, ids, **options)
        assert is_in.wait(20)
        for use in (engine.generate, engine.prefill):
            with pytest.raises(RuntimeError, match="another thread: make an Engine for each"):
                use(ids.flip(1))
        with pytest.raises(RuntimeError, match="another thread"):
            engine.step(torch.tensor([3]))
        may_go_on.set()
        assert torch.equal(found.result(20), expected)
    assert torch.equal(engine.generate(ids, **options), expected)


def test_what_was_fetched_is_safe_from_another_text():
    model = small_model()
    engine, ids = Engine(model), random_ids(model, 1, 3)
    options = {"max_new_tokens": 4, "eos_token_id": ()}

    def text(prompt):
        return engine_steps.steps(engine, prepare(engine, prompt, options=options), look_every=4)

    expected, other = ([step.tokens.item() for step in text(x)] for x in (ids, ids.flip(1)))
    assert expected != other
    first = text(ids)
    found = [next(first).tokens.item()]
    assert [step.tokens.item() for step in text(ids.flip(1))] == other
    assert found + [step.tokens.item() for step in first] == expected


def test_what_is_refused_or_never_read_does_not_disturb_a_text():
    model = small_model(sliding_window=None)
    engine, ids = Engine(model, capacity=20), random_ids(model, 1, 3)
    expected = engine.generate(ids, max_new_tokens=9, eos_token_id=())[0, 3:].tolist()
    stream = engine.stream(ids, max_new_tokens=9, eos_token_id=())
    found = [int(next(stream)) for _ in range(3)]
    with pytest.raises(ValueError, match="capacity=21"):
        engine.generate(ids, max_new_tokens=18)
    with pytest.raises(ValueError, match="capacity=25"):
        engine.prefill(random_ids(model, 1, 25))
    engine.stream(ids, max_new_tokens=2)
    assert found + [int(token) for token in stream] == expected


def test_damage_is_named_but_not_in_a_row_that_has_ended():
    model = small_model()
    engine, ids = Engine(model, 2), random_ids(model, 2, 3)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(DamagedScoresError, match="row 0"):
        engine.generate(ids, max_new_tokens=2)
    request = prepare(engine, ids, options={"eos_token_id": 5})
    ended = (torch.tensor([5, 6]), torch.zeros(2), torch.tensor([True, True]))
    damaged = (torch.tensor([7, 7]), torch.zeros(2), torch.tensor([False, True]))
    columns = tuple(map(torch.stack, zip(ended, damaged, strict=True)))
    steps = engine_steps._fetched(columns, torch.zeros(2).long(), request, [])
    assert [step.tokens.tolist() for step in steps] == [[5, 6], [5, 7]]


def test_beams_are_refused_and_room_is_asked_for_before_work_begins():
    model = small_model(sliding_window=None)
    engine, ids = Engine(model, capacity=8), random_ids(model, 1, 3)
    with pytest.raises(ValueError, match="num_beams=2.*use model.generate"):
        engine.generate(ids, num_beams=2)
    with pytest.raises(ValueError, match="9 tokens do not fit.*capacity=9"):
        engine.generate(ids, max_new_tokens=6)
    assert engine.moves.count == 0
    assert engine.generate(ids, max_new_tokens=5, eos_token_id=()).shape == (1, 8)


def test_a_stop_string_is_found_in_a_row_of_a_batch():
    model = small_model()
    ids = random_ids(model, 2, 4)
    free = model.generate(ids, max_new_tokens=8, eos_token_id=())
    stop = "".join(Letters().add(token) for token in free[0, 6:8].tolist())
    options = {"max_new_tokens": 8, "stop_strings": stop, "tokenizer": Letters()}
    expected = model.generate(ids, **options)
    assert torch.equal(Engine(model, 2).generate(ids, **options), expected)
