"""Planted bugs in the model, its cache and its heads: for each known trap a line that falls in it.

Each entry is (trap, what it is, file, lines as they are, lines as planted, test that then fails).
Traps are numbered as in the table of pitfalls in `tests/README.md`; 0 marks a bug that is no
famous trap. Whether each test fails is for `make mutants` to show.
"""

CACHE, STEP = "mistral_edu/rolling_cache.py", "mistral_edu/cache_step.py"
RULE, BACKENDS = "mistral_edu/sliding_window.py", "mistral_edu/backends.py"
INPUTS, ROPE = "mistral_edu/inputs.py", "mistral_edu/rope.py"
LOSSES, CLASSES = "mistral_edu/losses.py", "mistral_edu/classification.py"

CACHE_TESTS, RULE_TESTS = "tests/test_rolling_cache.py", "tests/test_sliding_window.py"
EVERY_CUT = f"{CACHE_TESTS}::test_every_chunk_size_equals_the_oracle_at_every_length"

MUTANTS = [
    (
        1,
        "the mask lets W + 1 keys through, the cache keeps W",
        RULE,
        "return seen if window is None else seen & (behind < window)",
        "return seen if window is None else seen & (behind <= window)",
        EVERY_CUT,
    ),
    (
        2,
        "one query alone sees everything",
        RULE,
        "    return seen if window is None else seen & (behind < window)",
        "    one = query_positions.shape[1] == 1\n"
        "    return seen if window is None or one else seen & (behind < window)",
        "tests/test_backends.py::test_a_backend_equals_the_definition_on_any_positions",
    ),
    (
        3,
        "a chunk sees all of the past, whatever the window",
        RULE,
        "    return seen if window is None else seen & (behind < window)",
        "    past = (key_positions < query_positions[:, :1])[:, None, :]\n"
        "    return seen if window is None else seen & ((behind < window) | past)",
        EVERY_CUT,
    ),
    (
        4,
        "the ring is overwritten before the chunk has attended to it",
        CACHE,
        "            before = ring[:, :, : step.used_slots]\n",
        "            early = new.detach().transpose(1, 2)[step.rows, step.columns]\n"
        "            ring.transpose(1, 2)[step.rows, step.slots] = early\n"
        "            before = ring[:, :, : step.used_slots]\n",
        EVERY_CUT,
    ),
    (
        5,
        "slots are taken for positions after the ring has wrapped",
        CACHE,
        "            key_positions = torch.cat([self.positions[:, :used], positions], dim=1)\n"
        "        evicts",
        "            slot = torch.arange(used).expand(len(positions), -1)\n"
        "            key_positions = torch.cat([slot, positions], dim=1)\n"
        "        evicts",
        EVERY_CUT,
    ),
    (
        6,
        "a chunk longer than the ring writes one slot twice",
        CACHE,
        "(positions >= 0) & (positions > last - self.slot_count)",
        "(positions >= 0) & (positions >= last - self.slot_count)",
        f"{CACHE_TESTS}::test_no_slot_is_written_twice_by_one_chunk",
    ),
    (
        7,
        "positions stop counting when the ring is full",
        CACHE,
        "        self.lengths = torch.maximum(self.lengths, step.positions.amax(dim=1) + 1)",
        "        reached = torch.maximum(self.lengths, step.positions.amax(dim=1) + 1)\n"
        "        self.lengths = reached.clamp(max=self.slot_count)",
        EVERY_CUT,
    ),
    (
        8,
        "while the ring is not full, the newest slot is left out",
        CACHE,
        "            used = min(end, self.slot_count)",
        "            used = min(end - 1, self.slot_count)",
        EVERY_CUT,
    ),
    (
        9,
        "only the first layer follows when rows change places",
        CACHE,
        "        self.keys = [ring[rows] for ring in self.keys]",
        "        self.keys = [self.keys[0][rows], *self.keys[1:]]",
        f"{CACHE_TESTS}::test_beams_that_change_places_go_on_as_if_they_had_always_stood_there",
    ),
    (
        10,
        "softmax over −∞ only",
        BACKENDS,
        "    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)\n"
        "    return scores.softmax(dim=-1).masked_fill(~seen, 0.0)",
        '    scores = scores.masked_fill(~seen, float("-inf"))\n    return scores.softmax(dim=-1)',
        "tests/test_backends.py::test_a_query_that_sees_nothing_yields_zeros_and_finite_gradients",
    ),
    (
        11,
        "the kernel is trusted with rows that see nothing",
        BACKENDS,
        "    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen | blind, "
        "enable_gqa=True)\n"
        "    return out.masked_fill(blind, 0.0)",
        "    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, "
        "enable_gqa=True)",
        "tests/test_backends.py::test_a_kernel_that_makes_nan_of_a_blind_row_does_no_harm",
    ),
    (
        12,
        "without padding the kernel is told 'causal' and forgets the window",
        BACKENDS,
        "    if seen.all():\n"
        "        return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)\n",
        "    if q.shape[2] == k.shape[2] and (q_positions >= 0).all():\n"
        "        return functional.scaled_dot_product_attention(\n"
        "            q, k, v, is_causal=True, enable_gqa=True\n"
        "        )\n",
        EVERY_CUT,
    ),
    (
        13,
        "'causal' is taken for a chunk over a cache, aligned at the top left",
        BACKENDS,
        "    if seen.all():\n"
        "        return functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)\n",
        "    if 1 < q.shape[2] < k.shape[2] and window is None:\n"
        "        return functional.scaled_dot_product_attention(\n"
        "            q, k, v, is_causal=True, enable_gqa=True\n"
        "        )\n",
        "tests/test_backends.py::test_a_backend_equals_the_definition_on_any_positions",
    ),
    (
        14,
        "the padding mask counts in the first step only",
        INPUTS,
        "    return attention_mask[:, shape[1] - tokens :].bool()",
        "    real = attention_mask[:, shape[1] - tokens :].bool()\n"
        "    return torch.ones_like(real) if so_far else real",
        f"{CACHE_TESTS}::test_uneven_chunks_of_a_ragged_batch_equal_single_rows",
    ),
    (
        15,
        "lengths count columns, padding included",
        CACHE,
        "        self.lengths = torch.maximum(self.lengths, step.positions.amax(dim=1) + 1)",
        "        self.lengths = self.lengths + step.positions.shape[1]",
        f"{CACHE_TESTS}::test_uneven_chunks_of_a_ragged_batch_equal_single_rows",
    ),
    (
        16,
        "one backend attends without the window",
        BACKENDS,
        "    seen = visible(q_positions, k_positions, window)[:, None]  # (B, 1, T, S)\n",
        "    seen = visible(q_positions, k_positions, None)[:, None]  # (B, 1, T, S)\n",
        "tests/test_backends.py::test_the_loss_over_a_long_text_is_the_same_under_every_backend",
    ),
    (
        20,
        "positions are cast to half precision before they become angles",
        ROPE,
        "    angles = positions[:, None, :, None].float() * frequencies",
        "    angles = positions[:, None, :, None].bfloat16().float() * frequencies",
        "tests/test_model.py::test_in_half_precision_position_5000_is_as_sharp_as_position_0",
    ),
    (
        21,
        "every layer tables the angles of all 131,072 positions",
        "mistral_edu/attention.py",
        "        self.prune(config.pruned_heads.get(layer, ()))",
        "        self.prune(config.pruned_heads.get(layer, ()))\n"
        "        self.table = torch.zeros(config.max_position_embeddings, config.head_dim)",
        "tests/test_model.py::test_nothing_is_tabled_so_a_model_is_no_larger_than_its_weights",
    ),
    (
        22,
        "attention weights are not made under a fused backend",
        "mistral_edu/chunk.py",
        "        elif self.weigh:\n",
        "        elif self.weigh and self.backend.__name__ == 'eager_attention':\n",
        "tests/test_model.py::test_attentions_on_request_sum_to_one_and_change_nothing",
    ),
    (
        23,
        "nothing hides the future",
        RULE,
        "    seen = (behind >= 0) & (key_positions >= 0)[:, None, :]",
        "    seen = (key_positions >= 0)[:, None, :].expand_as(behind)",
        "tests/test_model.py::test_a_future_token_changes_nothing_before_it",
    ),
    (
        24,
        "key/value heads are tiled over the queries, not repeated",
        BACKENDS,
        '    scores = torch.einsum("bgrtd,bgsd->bgrts", grouped.float(), k.float())\n'
        "    return scores.flatten(1, 2)",
        "    grouped = q.unflatten(1, (-1, k.shape[1])).transpose(1, 2)\n"
        '    scores = torch.einsum("bgrtd,bgsd->bgrts", grouped.float(), k.float())\n'
        "    return scores.transpose(1, 2).flatten(1, 2)",
        "tests/test_backends.py::test_consecutive_query_heads_share_a_key_value_head",
    ),
    (
        25,
        "the token before the first pad id is pooled",
        CLASSES,
        "        return input_ids != pad_token_id",
        "        return (input_ids == pad_token_id).cumsum(dim=1) == 0",
        "tests/test_classification.py::test_the_pad_id_inside_a_text_does_not_end_it",
    ),
    (
        26,
        "labels of the pad id are ignored, though it is the end of the text",
        "mistral_edu/heads.py",
        "            loss=next_token_loss(logits, labels) if labels is not None else None,",
        "            loss=next_token_loss(\n"
        "                logits, labels.masked_fill(labels == self.config.pad_token_id, IGNORED)\n"
        "            ) if labels is not None else None,",
        "tests/test_heads.py::test_an_end_that_is_also_the_pad_id_keeps_its_label",
    ),
    (
        27,
        "the mean over no label",
        LOSSES,
        "    return total / (targets != IGNORED).sum().clamp(min=1)",
        "    return total / (targets != IGNORED).sum()",
        "tests/test_heads.py::test_a_batch_whose_labels_are_all_ignored_has_loss_zero_and_zero_gradients",
    ),
    (
        33,
        "texts of the parity run are no longer than the window",
        "tests/parity/cases.py",
        "random_ids(self.ours, rows, length or 3 * self.span + 5, seed)",
        "random_ids(self.ours, rows, length or self.span, seed)",
        "tests/parity/test_transformers.py::test_the_window_matters_in_every_configuration",
    ),
    (
        34,
        "no window is taken for a window of nothing",
        RULE,
        "    return seen if window is None else seen & (behind < window)",
        "    return seen & (behind < (window or 0))",
        f"{RULE_TESTS}::test_the_rule_is_the_inequality_for_every_pair",
    ),
    (
        34,
        "no window becomes FlashAttention's 'only itself'",
        RULE,
        "    return (-1, -1) if window is None else (window - 1, 0)",
        "    return (0, 0) if window is None else (window - 1, 0)",
        f"{RULE_TESTS}::test_flash_attention_bounds_leave_the_query_itself_out",
    ),
    (
        0,
        "a chunk that fails is not undone",
        CACHE,
        "            ring[step.rows, step.slots] = before",
        "            pass",
        f"{CACHE_TESTS}::test_a_forward_pass_that_fails_leaves_the_cache_as_it_was",
    ),
    (
        0,
        "a position that the row has passed is stored again",
        STEP,
        "    late = (positions >= 0) & (positions < lengths[:, None])",
        "    late = (positions >= 0) & (positions < 0)",
        f"{CACHE_TESTS}::test_a_cache_only_goes_forward",
    ),
    (
        0,
        "pruned heads keep listening by their new number",
        "mistral_edu/attention.py",
        "        self.shared = [self.shared[place] for place in kept]",
        "        self.shared = [place // 2 for place in range(len(kept))]",
        "tests/test_pretrained.py::test_pruned_heads_equal_heads_masked_to_zero",
    ),
    (
        0,
        "a 4D mask is laid over the visibility rule instead of replacing it",
        "mistral_edu/chunk.py",
        "        if self.bias is not None:\n",
        "        if self.bias is not None and self.window is None:\n",
        "tests/test_custom_mask.py::test_the_mask_replaces_the_rule_instead_of_adding_to_it",
    ),
    (
        0,
        "over a cache the columns of a 4D mask go by slot",
        "mistral_edu/custom_mask.py",
        "    at = key_positions.clamp(min=0)[:, None, None]  # → (B, 1, 1, keys)",
        "    at = torch.arange(key_positions.shape[1]).clamp(max=columns - 1)\n"
        "    at = at.expand_as(key_positions)[:, None, None]",
        "tests/test_custom_mask.py::"
        "test_over_a_cache_column_j_is_position_j_also_in_a_wrapped_ring",
    ),
    (
        0,
        "the inferred kind of problem is written into the config",
        LOSSES,
        '    return "multi_label_classification" if real else "single_label_classification"',
        '    config.problem_type = "multi_label_classification" if real else '
        '"single_label_classification"\n'
        "    return config.problem_type",
        "tests/test_classification.py::test_the_first_batch_does_not_decide_for_the_next",
    ),
    (
        0,
        "a tuple's stored length is taken for all tokens so far",
        "mistral_edu/legacy_cache.py",
        "    counted = before.sum(dim=1)",
        "    counted = before.sum(dim=1).clamp(max=stored)",
        "tests/test_legacy_cache.py::test_tuples_carry_a_text_far_past_the_window",
    ),
    (
        0,
        "resizing forgets the head",
        "mistral_edu/pretrained.py",
        "            if head is not None:\n                head.weight,",
        "            if head is None:\n                head.weight,",
        "tests/test_pretrained.py::test_resizing_keeps_the_rows_there_were_and_draws_the_others",
    ),
]
