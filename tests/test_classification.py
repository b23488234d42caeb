"""Classification: which token is pooled, and which loss the labels ask for."""

import pytest
import torch
from torch.nn import functional

from mistral_edu.classification import attended_tokens, last_attended
from mistral_edu.heads import MistralForSequenceClassification
from mistral_edu.losses import classification_loss
from tests.models import difference, random_ids, small_config


def classifier(**changes) -> MistralForSequenceClassification:
    torch.manual_seed(0)
    return MistralForSequenceClassification(small_config(**{"num_labels": 3, **changes})).eval()


def scores_of(model, text: list[int]) -> torch.Tensor:
    """The score of one text on its own, by its last token."""
    states = model.model(torch.tensor([text]), use_cache=False).last_hidden_state
    return model.score(states[0, -1])


def test_the_score_is_linear_without_bias():
    model = classifier()
    assert [name for name, _ in model.score.named_parameters()] == ["weight"]
    assert model.score.weight.shape == (3, 32)
    assert torch.equal(model(torch.tensor([[1, 5, 9]])).logits[0], scores_of(model, [1, 5, 9]))


TEXTS = [[1, 5, 9, 7], [1, 8], [1, 6, 9, 7, 5, 3, 8]]


@pytest.mark.parametrize("by", ["mask", "pad id"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_no_score(side, by):
    model = classifier(pad_token_id=0)
    rows = [
        [0] * (9 - len(text)) + text if side == "left" else text + [0] * (9 - len(text))
        for text in TEXTS
    ]
    ids = torch.tensor(rows)
    mask = (ids != 0).long()
    given = {"attention_mask": mask} if by == "mask" or side == "left" else {}
    logits = model(ids, **given).logits
    for row, text in enumerate(TEXTS):
        assert difference(logits[row], scores_of(model, text)) <= 1e-5


# A row with the pad id inside it: HF's early rule took the token before the first, index 1.
INNER = [1, 5, 2, 6, 7, 8]


def test_the_pad_id_inside_a_text_does_not_end_it():
    model = classifier(pad_token_id=2)
    ids = torch.tensor([INNER, [1, 6, 7, 8, 2, 2]])
    assert last_attended(attended_tokens(ids, None, 2, 2, 6)).tolist() == [5, 3]
    logits = model(ids).logits
    assert difference(logits[0], scores_of(model, INNER)) <= 1e-5
    assert difference(logits[1], scores_of(model, [1, 6, 7, 8])) <= 1e-5


def test_a_genuine_end_that_is_the_pad_id_needs_the_mask():
    ids, mask = torch.tensor([[1, 5, 6, 2]]), torch.ones(1, 4)
    assert last_attended(attended_tokens(ids, None, 2, 1, 4)).tolist() == [2]
    assert last_attended(attended_tokens(ids, mask, 2, 1, 4)).tolist() == [3]


def test_padding_inside_by_the_mask_is_passed_over():
    model = classifier()
    ids = torch.tensor([[1, 5, 63, 6, 7, 63]])
    mask = torch.tensor([[1, 1, 0, 1, 1, 0]])
    (found,) = model(ids, attention_mask=mask).logits
    assert difference(found, scores_of(model, [1, 5, 6, 7])) <= 1e-5


def test_several_rows_need_a_mask_or_a_pad_id():
    model = classifier()
    ids = random_ids(model, 2, 4)
    with pytest.raises(ValueError, match="where 2 texts end: pass attention_mask, or set config"):
        model(ids)
    assert model(ids, attention_mask=torch.ones(2, 4)).logits.shape == (2, 3)
    assert model(ids[:1]).logits.shape == (1, 3)


def test_embeddings_are_classified_by_their_last_or_last_attended():
    model = classifier(pad_token_id=0)
    ids = torch.tensor([[1, 5, 9, 0], [1, 6, 7, 8]])
    embeddings = model.get_input_embeddings()(ids)
    plain = model(inputs_embeds=embeddings).logits
    assert difference(plain[0], scores_of(model, [1, 5, 9, 0])) <= 1e-5
    masked = model(inputs_embeds=embeddings, attention_mask=(ids != 0).long()).logits
    assert difference(masked[0], scores_of(model, [1, 5, 9])) <= 1e-5
    assert difference(masked[1], plain[1]) <= 1e-5


def test_a_row_of_padding_alone_is_refused():
    model = classifier(pad_token_id=0)
    ids = torch.tensor([[1, 5], [0, 0]])
    with pytest.raises(ValueError, match="row 1 has no token to classify by"):
        model(ids)
    with pytest.raises(ValueError, match="row 0 has no token"):
        model(ids, attention_mask=torch.tensor([[0, 0], [1, 1]]))


def test_a_text_in_chunks_is_scored_by_its_last_token():
    model = classifier()
    ids = random_ids(model, 2, 9)
    mask = torch.ones(2, 9)
    cache = model(ids[:, :5], attention_mask=mask[:, :5]).past_key_values
    found = model(ids[:, 5:], attention_mask=mask, past_key_values=cache).logits
    assert difference(found, model(ids, attention_mask=mask).logits) <= 1e-5


def test_the_first_batch_does_not_decide_for_the_next():
    model = classifier(pad_token_id=0)
    ids = random_ids(model, 2, 4)
    classes, several = torch.tensor([0, 2]), torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    logits = model(ids).logits
    first = functional.cross_entropy(logits, classes)
    assert torch.allclose(model(ids, labels=classes).loss, first)
    second = functional.binary_cross_entropy_with_logits(logits, several)
    assert torch.allclose(model(ids, labels=several).loss, second)
    assert model.config.problem_type is None


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_one_label_is_a_regression_whatever_its_type(shape, dtype):
    model = classifier(num_labels=1, pad_token_id=0)
    ids, labels = random_ids(model, 2, 4), torch.tensor([1, 3]).to(dtype).view(shape)
    output = model(ids, labels=labels)
    expected = ((output.logits[:, 0] - torch.tensor([1.0, 3.0])) ** 2).mean()
    assert torch.allclose(output.loss, expected)


def test_the_config_s_problem_type_decides_if_given():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    numbers = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    regression = small_config(num_labels=2, problem_type="regression")
    expected = (scores - numbers).square().mean()
    assert torch.allclose(classification_loss(scores, numbers, regression), expected)
    several = small_config(num_labels=1, problem_type="multi_label_classification")
    yes = functional.binary_cross_entropy_with_logits(scores[:, :1], numbers[:, :1])
    assert torch.allclose(classification_loss(scores[:, :1], numbers[:, 0], several), yes)


def test_ignored_classes_do_not_count_and_all_ignored_is_zero():
    scores = torch.randn(3, 4, requires_grad=True)
    config = small_config(num_labels=4)
    loss = classification_loss(scores, torch.tensor([-100, 2, -100]), config)
    assert torch.allclose(loss, functional.cross_entropy(scores[[1]], torch.tensor([2])))
    nothing = classification_loss(scores, torch.full((3,), -100), config)
    nothing.backward()
    assert nothing.item() == 0 and not scores.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_loss_is_computed_in_float32(dtype):
    scores = torch.tensor([[1.2345, 2.3456]]).to(dtype)
    for labels in (torch.tensor([1]), torch.tensor([[0.0, 1.0]])):
        loss = classification_loss(scores, labels, small_config())
        assert torch.equal(loss, classification_loss(scores.float(), labels, small_config()))


@pytest.mark.parametrize(
    ("changes", "labels", "message"),
    [
        ({}, torch.tensor([0, 3]), "labels holds 3, expected 0 to 2"),
        ({}, torch.tensor([[0, 1, 1], [1, 0, 0]]), r"shape \(2, 3\), expected \(2,\) for single_l"),
        ({}, torch.tensor([0.0, 1.0]), r"shape \(2,\), expected \(2, 3\) for multi_label"),
        ({}, torch.tensor([0, 1, 2]), r"shape \(3,\), expected \(2,\)"),
        ({"num_labels": 1}, torch.tensor([1.0]), r"shape \(1,\), expected \(2, 1\) for regression"),
        (
            {"problem_type": "single_label_classification"},
            torch.tensor([0.0, 1.0]),
            "dtype torch.float32, expected whole numbers",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(changes, labels, message):
    model = classifier(pad_token_id=0, **changes)
    with pytest.raises(ValueError, match=message):
        model(random_ids(model, 2, 4), labels=labels)


def test_a_wrong_label_or_end_leaves_the_cache_as_it_was():
    model = classifier()
    ids = random_ids(model, 1, 6)
    cache = model(ids[:, :5]).past_key_values
    for wrong in ({"labels": torch.tensor([3])}, {"attention_mask": torch.zeros(1, 1)}):
        with pytest.raises(ValueError):
            model(ids[:, 5:], past_key_values=cache, **wrong)
        assert cache.lengths.tolist() == [5]


def test_a_classifier_saves_and_loads(tmp_path):
    model = classifier(id2label={0: "no", 1: "yes", 2: "perhaps"}, pad_token_id=0)
    model.save_pretrained(tmp_path)
    again = MistralForSequenceClassification.from_pretrained(tmp_path)
    ids = random_ids(model, 2, 6)
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.config.id2label[2] == "perhaps"
    assert again.attention_backend == model.attention_backend
