"""Classification: what is compared is comparable, training works, and the words follow the rows."""

import pytest
import torch
from PIL import Image

from mistral_edu import MistralForCausalLM, MistralTokenizer
from mistral_edu.experiments import classification
from mistral_edu.experiments.classification import FRESH, LOOKS, TUNED, Settings
from mistral_edu.training.labelled import TASKS
from mistral_edu.weights.named import local_folder
from tests.models import small_config


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small random base model with the tokenizer of `tiny`."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = MistralTokenizer.from_pretrained(local_folder("tiny"))
    tokenizer.save(folder)
    torch.manual_seed(5)
    size = tokenizer.vocab_size
    config = small_config(vocab_size=size, sliding_window=64, initializer_range=0.02)
    MistralForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(base):
    return MistralTokenizer.from_pretrained(base)


def settings(base, **changes):
    fields = {"steps": {"hat": 2, "sky": 2}, "rows": 2, "learning_rate": 1e-3, "warmup": 1}
    return Settings(str(base), **{**fields, "held_out": 8, "seed": 0, **changes})


def small(base):
    return classification.measure(base, 2, 2, rows=2, held_out=8, workers=1)


def test_every_method_learns_every_task_from_the_same_number_of_examples(base):
    rows = small(base).rows
    assert [(row["task"], row["method"]) for row in rows] == [
        (task, method) for task in TASKS for method in LOOKS
    ]
    assert {(row["examples"], row["held out"]) for row in rows} == {(4, 8)}
    assert {row["task"]: row["chance"] for row in rows} == {"hat": 0.125, "sky": 0.1}


def test_the_same_settings_give_the_same_table(base):
    one, other = ([{**row, "seconds": 0} for row in small(base).rows] for _ in range(2))
    assert one == other


def test_only_the_fine_tuned_model_begins_with_the_weights_of_the_base(base):
    known = MistralForCausalLM.from_pretrained(base).model.state_dict()
    for pretrained in (True, False):
        model = classification.classifier(settings(base), ("no", "yes", "?"), pretrained)
        own = model.model.state_dict()
        assert all(torch.equal(own[name], known[name]) for name in known) == pretrained
        assert model.score.weight.shape == (3, 32)


def test_training_learns_the_weather(base, tokenizer):
    options = settings(base, steps={"sky": 80}, rows=16, learning_rate=0.005, held_out=100)
    model = classification.classifier(options, TASKS["sky"].labels, pretrained=False)
    losses = classification.learn(model, tokenizer, options.examples("sky", "train"), options)
    assert losses[0] > 2.2 > 1.7 > sum(losses[-5:]) / 5
    testing = options.examples("sky", "test")
    predicted = classification.predict(model, tokenizer, [example.text for example in testing])
    assert sum(p == e.label for p, e in zip(predicted, testing, strict=True)) > 30  # chance: 10


def test_a_text_gets_the_same_label_whatever_stands_beside_it(base, tokenizer):
    model = classification.classifier(settings(base), TASKS["sky"].labels, pretrained=True)
    for matrix in (parameter for parameter in model.parameters() if parameter.dim() == 2):
        matrix.data *= 15  # so that texts differ in what they get
    texts = [example.text for example in TASKS["sky"].examples(0, 12)]
    alone = [classification.predict(model, tokenizer, [text])[0] for text in texts]
    assert classification.predict(model, tokenizer, texts) == alone and len(set(alone)) > 1


def test_batches_hold_every_row_once_and_rows_of_like_length_together():
    rows = [[1] * (1 + place * 7 % 31) for place in range(64)]
    cut = list(classification.batches(rows, 4, seed=0))
    assert sorted(index for batch in cut for index in batch) == list(range(64))
    spans = [{len(rows[index]) for index in batch} for batch in cut]
    assert max(max(span) - min(span) for span in spans) <= 3
    assert cut != sorted(cut, key=lambda batch: len(rows[batch[0]]))


def row(task, method, accuracy, chance=0.5, held_out=1000):
    names = ("task", "method", "accuracy", "chance", "held out", "examples", "seconds")
    return dict(zip(names, (task, method, accuracy, chance, held_out, 9, 1.0), strict=True))


def test_the_finding_follows_the_rows():
    found = classification.finding([row("a", TUNED, 0.96), row("a", FRESH, 0.51)])
    assert found == "a: fine-tuned model 96 % right, the others no better than chance"
    assert classification.finding([row("a", TUNED, 0.54)]) == "a: none above chance"
    assert classification.finding([row("a", TUNED, 0.56)]) == "a: fine-tuned model 56 % right"


def test_the_figure_tells_methods_apart_without_colour(tmp_path):
    rows = [row(task, method, 0.6) for task in TASKS for method in LOOKS]
    found = classification.Measurement("classification", "It works", {}, rows, 1.0)
    classification.draw(found, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size == (760, 460)
    assert len({hatch for _, hatch in LOOKS.values()}) == len(LOOKS)
