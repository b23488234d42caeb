"""Which of a checkpoint's tensors is which of the model's.

A checkpoint of a language model also serves the bare model and the classifier, and the other way
round: the decoder's names only gain or lose the prefix `model.`, and a head that the model does not
have is left out. Everything else must match name by name.

Lesson: 11_weights.
"""

from collections.abc import Collection

PREFIX = "model."
HEADS = ("lm_head.weight", "score.weight")
# A classifier made from a language model starts with a head that nobody has trained.
FRESH = ("score.weight",)
# The first converter of 2023 also stored the rotary frequencies, which follow from the config.
DERIVED = ".rotary_emb.inv_freq"


def matched_names(ours: Collection[str], theirs: Collection[str]) -> dict[str, str]:
    """The checkpoint's name of each tensor, by the name that the model has or would have for it.

    Args:
        ours: the model's names.
        theirs: the checkpoint's names.

    Returns:
        An entry for every tensor of the checkpoint but those the model rightly does without;
        names that fit nothing are kept as they are, to be reported.

    >>> matched_names(["norm.weight"], ["model.norm.weight", "lm_head.weight", "other"])
    {'norm.weight': 'model.norm.weight', 'other': 'other'}
    >>> matched_names(["model.norm.weight", "lm_head.weight"], ["norm.weight"])
    {'model.norm.weight': 'norm.weight'}
    """
    we_have_prefix = any(name.startswith(PREFIX) for name in ours)
    they_have_prefix = any(name.startswith(PREFIX) for name in theirs)
    matched = {}
    for name in theirs:
        if name.endswith(DERIVED) or (name in HEADS and name not in ours):
            continue
        our_name = name
        if they_have_prefix and not we_have_prefix:
            our_name = name.removeprefix(PREFIX)
        elif we_have_prefix and not they_have_prefix and name not in HEADS:
            our_name = PREFIX + name
        matched[our_name] = name
    return matched
