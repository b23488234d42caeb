"""The verifier passes what is right and names every planted fault; the table is consistent.

No real weights exist here: a small model stands in, with a table of its own.
"""

import hashlib
import json
import types

import pytest
import torch

from mistral_edu import MistralConfig, MistralTokenizer, cli
from mistral_edu.paths import data_dir
from mistral_edu.weights import verify as verifying
from mistral_edu.weights.convert import convert
from mistral_edu.weights.names import entries
from mistral_edu.weights.params_json import config_from_params
from mistral_edu.weights.published import MISTRAL_7B_V0_1, Continuation, Published, Tolerance
from mistral_edu.weights.saving import write_sharded
from mistral_edu.weights.sources import open_safetensors
from mistral_edu.weights.verify import exit_status, verify
from mistral_edu.weights.verify_behaviour import greedy_line, partings, shared_prefix_line
from tests.models import small_model

WINDOW = 8
TOKENIZER = data_dir() / "tiny" / "tokenizer.model"


@pytest.fixture(scope="module")
def model():
    return small_model(
        vocab_size=2048,
        sliding_window=WINDOW,
        num_hidden_layers=3,
        hidden_act="silu",
        max_position_embeddings=32768,
        eos_token_id=None,
    )


@pytest.fixture(scope="module")
def tokenizer():
    return MistralTokenizer.from_file(TOKENIZER)


@pytest.fixture(scope="module")
def table(model, tokenizer) -> Published:
    """What a run of the small model gives, as if it had been published."""
    ids = [1, 306, 700, 278, 659, 310, 283, 338]
    long_ids = [1, *[306, 338] * (2 * WINDOW)]
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    return Published(
        name="small",
        release=None,
        config=model.config,
        tensors=9 * 3 + 3,
        parameters=model.num_parameters(),
        tokenizer_sha256=hashlib.sha256(TOKENIZER.read_bytes()).hexdigest(),
        ids=ids,
        mean_logits=logits.mean(-1).tolist(),
        logits={torch.float32: {token: logits[0, token].item() for token in (0, 1, 2, 3, 12, 13)}},
        tolerances={torch.float32: Tolerance(mean=1e-4, logit=1e-3, gap=1e-3)},
        greedy=[continuation(model, tokenizer, "The miller", 4)],
        long_ids=long_ids,
        long_ends_in=model.generate(torch.tensor([long_ids]), max_new_tokens=4)[0, -2:].tolist(),
        long_greedy=[continuation(model, tokenizer, "Rain falls on the bridge", 3)],
    )


def continuation(model, tokenizer, start, new_tokens):
    """The first prompt whose greedy text is made of whole letters that encode back."""
    for number in range(200):
        prompt = f"{start} {number}"
        ids = tokenizer.encode(prompt)
        made = model.generate(torch.tensor([ids]), max_new_tokens=new_tokens)[0].tolist()
        whole = tokenizer.decode(made)
        if whole.startswith(prompt) and tokenizer.encode(whole) == made:
            return Continuation(prompt, whole[len(prompt) :], new_tokens)
    raise AssertionError("no prompt gives a text that encodes back")


@pytest.fixture
def folder(model, tmp_path):
    """The right checkpoint."""
    return save(model, tmp_path / "right")


def save(model, folder):
    model.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(TOKENIZER.read_bytes())
    return folder


def report(folder, table, **options):
    return list(verify(folder, published=table, **{"attention": "eager", "long": True, **options}))


def failing(lines):
    return [line.name for line in lines if line.status == "fail"]


def change_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rewrite(folder, change):
    """Write the weights again, each name and tensor as `change(name, tensor)` has it."""
    source = open_safetensors(folder)
    tensors = dict(change(name, source.read(name).clone()) for name in source.names())
    plan = [(name, t.dtype, tuple(t.shape), t.clone) for name, t in sorted(tensors.items())]
    write_sharded(folder, plan)


# ── what is right passes ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", ["hugging-face", "safetensors", "pth"])
def test_the_right_weights_pass_every_line_in_every_layout(folder, table, tmp_path, layout):
    if layout != "hugging-face":
        convert(folder, tmp_path / "o", to="original", pth=layout == "pth")
        (tmp_path / "o" / "config.json").unlink(missing_ok=True)
        folder = tmp_path / "o"
    lines = report(folder, table)
    assert failing(lines) == []
    assert exit_status(lines) == 0
    assert {line.status for line in lines} == {"pass"}
    assert len(lines) == 4 + 12 + 2 + 8 + 6 + 1 + 1 + 1 + 1 + (layout == "pth")


def test_a_mask_that_is_not_obeyed_is_seen_in_the_shared_prefix(model, table, monkeypatch):
    assert shared_prefix_line(model, table.ids).status == "pass"
    monkeypatch.setattr("mistral_edu.chunk.over_chunk", lambda bias, _: torch.zeros_like(bias))
    assert shared_prefix_line(model, table.ids).status == "fail"


def test_the_long_lines_are_beyond_the_window(table, tokenizer):
    assert len(table.long_ids) > 3 * WINDOW
    for text in (*table.greedy, *table.long_greedy):
        assert len(tokenizer.encode(text.prompt + text.text)) > WINDOW and text.text


# ── planted faults are named ────────────────────────────────────────────────────────────────────


def test_eps_1e_6_is_named(folder, table):
    change_config(folder, rms_norm_eps=1e-6)
    assert "rms_norm_eps" in failing(report(folder, table))


def test_theta_1e6_is_named_and_seen_in_the_logits(folder, table):
    change_config(folder, rope_theta=1e6)
    names = failing(report(folder, table))
    assert names[0] == "rope_theta"
    assert "mean logit at position 7" in names
    assert "mean logit at position 0" not in names  # nothing is rotated there


def test_a_window_of_one_more_is_named_and_seen_beyond_the_window(folder, table):
    change_config(folder, sliding_window=WINDOW + 1)
    names = failing(report(folder, table))
    assert names[0] == "sliding_window"
    assert not any(name.startswith("mean logit") for name in names)  # 8 tokens all fit
    assert names[1:] and all(name.startswith(("after 33", "greedy after")) for name in names[1:])


def test_a_missing_permutation_is_seen_in_the_logits(folder, table, model):
    """Right names, right shapes, right config; only running the model shows it (trap 17)."""
    from mistral_edu.rope import halves_to_pairs

    def raw(name, tensor):
        heads = 4 if "q_proj" in name else 2
        return name, halves_to_pairs(
            tensor, heads
        ) if "q_proj" in name or "k_proj" in name else tensor

    rewrite(folder, raw)
    names = failing(report(folder, table))
    assert "names and shapes" not in names
    assert [name for name in names if name.startswith("mean logit")] == [
        f"mean logit at position {position}" for position in range(1, 8)
    ]


def test_keys_permuted_with_the_query_heads_are_seen_in_the_logits(folder, table):
    from mistral_edu.rope import halves_to_pairs, pairs_to_halves

    def wrong(name, tensor):
        if "k_proj" not in name:
            return name, tensor
        return name, pairs_to_halves(halves_to_pairs(tensor, heads=2), heads=4)

    rewrite(folder, wrong)
    assert "mean logit at position 7" in failing(report(folder, table))


def test_swapped_gate_and_up_are_seen_in_the_logits(folder, table):
    swap = {"gate_proj": "up_proj", "up_proj": "gate_proj"}

    def swapped(name, tensor):
        part = name.split(".")[-2]
        return name.replace(part, swap.get(part, part)), tensor

    rewrite(folder, swapped)
    names = failing(report(folder, table))
    assert "names and shapes" not in names
    assert "mean logit at position 0" in names and "logit of token 0 at position 0" in names


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_named_with_its_tensor(folder, table, value):
    def spoiled(name, tensor):
        if name == "model.layers.1.mlp.up_proj.weight":
            tensor[-1, -1] = value
        return name, tensor

    rewrite(folder, spoiled)
    line = next(line for line in report(folder, table) if line.name == "numbers")
    assert line.status == "fail"
    assert line.found == "NaN or infinity in model.layers.1.mlp.up_proj.weight"


def test_another_tokenizer_is_named(folder, table):
    MistralTokenizer.train(["the valley"] * 9, 270).save(folder / "tokenizer.model")
    lines = report(folder, table)
    assert failing(lines) == ["tokenizer.model, SHA-256"]
    texts = [line for line in lines if line.name.startswith("greedy")]
    assert all("the tokenizer has 270 ids, the model 2048" in line.why for line in texts)


def test_a_missing_tensor_is_named_and_nothing_runs(folder, table):
    source = open_safetensors(folder)
    kept = [name for name in source.names() if name != "model.layers.2.mlp.up_proj.weight"]
    plan = [(n, source.dtype(n), source.shape(n), lambda n=n: source.read(n)) for n in kept]
    write_sharded(folder, plan)
    lines = report(folder, table)
    assert failing(lines) == ["tensors", "parameters", "names and shapes"]
    shapes = next(line for line in lines if line.name == "names and shapes")
    assert shapes.found == "model.layers.2.mlp.up_proj.weight: is missing"
    assert lines[-1].status == "skipped" and "do not fit its own config" in lines[-1].why


def test_a_flipped_bit_in_a_pth_is_named(folder, table, tmp_path):
    convert(folder, tmp_path / "o", to="original", pth=True)
    path = tmp_path / "o" / "consolidated.00.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "checksums in consolidated.00.pth" in failing(report(tmp_path / "o", table))


def test_a_flipped_bit_in_the_hub_s_cache_is_named(folder, table, tmp_path):
    """snapshots/<revision>/name is a link to blobs/<SHA-256>."""
    snapshot, blobs = tmp_path / "snapshots" / "a1b2", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder.iterdir():
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(blob)
        (snapshot / path.name).symlink_to(blob)
    assert failing(report(snapshot, table)) == []
    weights = (snapshot / "model.safetensors").resolve()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    lines = {line.name: line for line in report(snapshot, table)}
    assert lines["files altered since they were downloaded"].found == "model.safetensors"


def test_another_release_is_called_by_its_name():
    v0_2 = MistralConfig.mistral_7b_v0_1()
    v0_2.sliding_window, v0_2.rope_theta = None, 1e6
    found = types.SimpleNamespace(
        config=v0_2,
        layout="hugging-face",
        source=types.SimpleNamespace(names=lambda: ["model.embed_tokens.weight"],
                                     shape=lambda name: (32000, 4096),
                                     dtype=lambda name: torch.bfloat16),
    )  # fmt: skip
    from mistral_edu.weights.verify_structure import structure

    lines = {}
    for line in structure.__wrapped__(found, MISTRAL_7B_V0_1):
        lines[line.name] = line
        if line.name == "tie_word_embeddings":
            break
    assert lines["release"].found == "v0.2" and lines["release"].status == "fail"
    assert lines["sliding_window"].status == lines["rope_theta"].status == "fail"
    assert lines["rms_norm_eps"].status == "pass"


# ── texts that part from the published one ──────────────────────────────────────────────────────


def test_a_text_that_parts_at_a_near_tie_passes_and_at_a_clear_choice_fails(
    model, tokenizer, table
):
    """Publish the second best choice for the last token: its distance decides."""
    (right,) = table.greedy
    ids = tokenizer.encode(right.prompt + right.text)[:-1]
    logits = model(torch.tensor([ids])).logits[0, -1]
    for choice in logits.argsort(descending=True)[1:].tolist():
        whole = tokenizer.decode([*ids, choice])
        if tokenizer.encode(whole) == [*ids, choice]:
            break
    gap = (logits.max() - logits[choice]).item()
    text = Continuation(right.prompt, whole[len(right.prompt) :], right.new_tokens)
    assert greedy_line(model, tokenizer, text, tolerance=gap + 0.01).status == "pass"
    line = greedy_line(model, tokenizer, text, tolerance=gap - 0.01)
    assert (
        line.status == "fail" and f"1 tokens are not the likeliest, by up to {gap:.3f}" in line.why
    )


def test_a_model_that_prefers_nothing_does_not_pass_by_ties(tokenizer, table, model):
    nothing = small_model(vocab_size=2048)
    with torch.no_grad():
        nothing.lm_head.weight.zero_()
    (text,) = table.greedy
    assert greedy_line(nothing, tokenizer, text, tolerance=1.0).status == "fail"


def test_a_model_s_own_text_has_no_gap_across_chunks(model, monkeypatch):
    monkeypatch.setattr("mistral_edu.weights.verify_behaviour.CHUNK", 5)
    prompt = [1, 306, 338, 700]
    made = model.generate(torch.tensor([prompt]), max_new_tokens=3 * WINDOW)[0].tolist()
    assert partings(model, prompt, made) == []
    assert len(partings(model, prompt[:3], made)) == 1  # 700 was given, not chosen
    assert partings(model, [2], made) == [float("inf")]


# ── what cannot run here is skipped, with the reason ────────────────────────────────────────────


def test_without_a_gpu_the_long_lines_wait_until_they_are_asked_for(folder, table):
    lines = report(folder, table, device="cpu", long=False)
    skipped = [line for line in lines if line.status == "skipped"]
    assert len(skipped) == 2 and all("--long" in line.why for line in skipped)
    assert exit_status(lines) == 0


def test_too_little_memory_is_a_reason_and_a_mapped_file_needs_none(folder, table, monkeypatch):
    monkeypatch.setattr(
        verifying.psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000)
    )
    assert failing(report(folder, table)) == []
    lines = report(folder, table, dtype=torch.float16)
    assert lines[-1].status == "skipped"
    assert "it needs 0.0 GB on cpu, and 0.0 GB are free" in lines[-1].why


def test_a_smaller_vocabulary_than_the_published_ids_is_no_crash(folder):
    lines = list(verify(folder, attention="eager"))
    assert exit_status(lines) == 1
    assert "its vocabulary is smaller" in lines[-1].why


def test_a_folder_without_a_tokenizer_is_run_with_the_released_one_if_it_fits(folder, table):
    (folder / "tokenizer.model").unlink()
    lines = report(folder, table)
    line = next(line for line in lines if line.name.startswith("tokenizer"))
    assert (line.status, line.why) == ("skipped", "the folder has none")
    texts = [line for line in lines if line.name.startswith("greedy")]
    assert failing(lines) == []
    assert [line.status for line in texts] == ["skipped", "skipped"]
    assert all("the tokenizer has 32000 ids, the model 2048" in line.why for line in texts)


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def test_the_command_prints_every_line_and_fails_on_the_wrong_model(folder, capsys):
    assert cli.main(["verify", str(folder)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "✗ fail     tensors: expected 291, found 30"
    assert any(line.startswith("✓ pass     rms_norm_eps: expected 1e-05") for line in said)
    assert said[-1].endswith("1 skipped")


def test_the_command_succeeds_on_the_right_one(folder, table, capsys, monkeypatch):
    monkeypatch.setattr("mistral_edu.weights.published.MISTRAL_7B_V0_1", table)
    assert cli.main(["verify", str(folder), "--device", "cpu", "--long"]) == 0
    assert "0 fail, 0 skipped" in capsys.readouterr().out


def test_a_folder_without_a_model_is_named_on_one_line(tmp_path, capsys):
    assert cli.main(["verify", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said and len(said.splitlines()) == 1


# ── the published table ─────────────────────────────────────────────────────────────────────────


def test_the_table_agrees_with_the_config_and_the_tokenizer():
    released = entries(MISTRAL_7B_V0_1.config)
    assert len(released) == MISTRAL_7B_V0_1.tensors == 291
    numbers = sum(torch.Size(entry.shape).numel() for entry in released)
    assert numbers == MISTRAL_7B_V0_1.parameters == 7_241_732_096
    fields = {"dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32}
    fields |= {"n_kv_heads": 8, "norm_eps": 1e-5, "sliding_window": 4096, "vocab_size": 32000}
    assert config_from_params(fields) == MISTRAL_7B_V0_1.config
    from importlib import resources

    real = resources.files("mistral_common") / "data" / "tokenizer.model.v1"
    assert hashlib.sha256(real.read_bytes()).hexdigest() == MISTRAL_7B_V0_1.tokenizer_sha256


def test_the_long_prompts_are_longer_than_the_window_by_the_counts_published():
    tokenizer = MistralTokenizer.mistral_v1()
    assert len(MISTRAL_7B_V0_1.long_ids) == 4097
    (text,) = MISTRAL_7B_V0_1.long_greedy
    assert len(tokenizer.encode(text.prompt)) == 4101
    for known in (*MISTRAL_7B_V0_1.greedy, text):
        ids, whole = tokenizer.encode(known.prompt), tokenizer.encode(known.prompt + known.text)
        assert whole[: len(ids)] == ids
        assert len(whole) - len(ids) <= known.new_tokens


def test_the_two_published_sets_of_logits_agree_within_the_tolerance():
    one, other = (MISTRAL_7B_V0_1.first_logits(t) for t in (torch.float32, torch.float16))
    assert one.keys() == other.keys()
    tolerance = MISTRAL_7B_V0_1.tolerance(torch.float16).logit
    assert all(abs(one[token] - other[token]) < tolerance for token in one)
    assert MISTRAL_7B_V0_1.first_logits(torch.bfloat16) == one
