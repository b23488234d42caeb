"""The language model's head: logits, the shifted loss, and labels that are no tokens."""

import pytest
import torch

from mistral_edu.heads import next_token_loss
from tests.models import difference, left_padded, random_ids, small_model


def test_the_loss_predicts_the_next_token_and_skips_ignored_labels():
    model = small_model()
    ids = random_ids(model, 2, 5)
    labels = ids.clone()
    labels[0, 3:] = -100
    output = model(ids, labels=labels)
    logs = output.logits.log_softmax(-1)
    picked = [
        logs[b, t, ids[b, t + 1]] for b in range(2) for t in range(4) if labels[b, t + 1] != -100
    ]
    assert torch.allclose(output.loss, -torch.stack(picked).mean())


def test_a_batch_whose_labels_are_all_ignored_has_loss_zero_and_zero_gradients():
    model = small_model()
    ids = random_ids(model, 2, 4)
    loss = model(ids, labels=torch.full((2, 4), -100)).loss
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters())


def test_one_token_predicts_nothing_and_has_loss_zero():
    logits = torch.randn(3, 1, 8, requires_grad=True)
    loss = next_token_loss(logits, torch.zeros(3, 1, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_an_end_that_is_also_the_pad_id_keeps_its_label():
    # pad = eos: what is masked goes by the mask, so the genuine end is learned.
    model = small_model(pad_token_id=2)
    ids, mask = left_padded([torch.tensor([5, 6, 2]), torch.tensor([1, 5, 6, 7, 2])])
    ids = ids.masked_fill(mask == 0, 2)
    labels = ids.masked_fill(mask == 0, -100)
    output = model(ids, attention_mask=mask, labels=labels)
    logs = output.logits.log_softmax(-1)
    real = [(0, 2), (0, 3), *((1, t) for t in range(4))]
    rows = [logs[b, t, ids[b, t + 1]] for b, t in real]
    first = logs[0, 1, ids[0, 2]]  # predicted from padding: its label counts all the same
    expected = -torch.stack([*rows, first]).mean()
    assert torch.allclose(output.loss, expected)
    model.zero_grad()
    output.loss.backward()
    assert model.lm_head.weight.grad[2].any(), "the end is learned"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_is_computed_in_float32(dtype):
    logits = torch.randn(1, 400, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.arange(400)[None] % 8
    loss = next_token_loss(logits, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, next_token_loss(logits.float(), labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.full((2, 5), 64), "labels holds 64, expected 0 to 63, or -100"),
        (torch.full((2, 5), -1), "labels holds -1, expected 0 to 63"),
        (torch.full((2, 5), 1.0), "labels has dtype torch.float32, expected whole numbers"),
        (torch.full((2, 5), True), "labels has dtype torch.bool, expected whole numbers"),
        (torch.full((2, 4), 1), r"labels has shape \(2, 4\), expected \(2, 5\)"),
        (torch.full((10,), 1), r"labels has shape \(10,\), expected \(2, 5\)"),
    ],
)
def test_labels_that_are_no_tokens_are_refused(labels, message):
    model = small_model()
    with pytest.raises(ValueError, match=message):
        model(random_ids(model, 2, 5), labels=labels)
    with pytest.raises(ValueError, match=message):
        next_token_loss(torch.zeros(2, 5, 64), labels)


def test_the_whole_model_names_the_backend_of_its_decoder():
    model = small_model(attention="eager")
    assert model.attention_backend == model.model.attention_backend == "eager"


def test_only_the_logits_asked_for_are_computed():
    model = small_model()
    ids = random_ids(model, 1, 5)
    found = model(ids, logits_to_keep=2).logits
    assert difference(found, model(ids).logits[:, -2:]) <= 1e-6
    for options in ({"logits_to_keep": -1}, {"logits_to_keep": 2, "labels": ids}):
        with pytest.raises(ValueError, match="must be 0 or more, and 0 with labels"):
            model(ids, **options)
