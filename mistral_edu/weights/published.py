"""What is published about Mistral-7B-v0.1 and can be checked: sizes, logits, texts.

Sources, by the letter in the comments
    a   arithmetic from the released config; the tensor list of the released checkpoint
    b   transformers, tests/models/mistral/test_modeling_mistral.py: slow tests on real weights
    c   mistralai/mistral-inference, README of 2023: the demo's output
    d   the SHA-256 that the hub shows for tokenizer.model of Mistral-7B-v0.1
Lesson: 11_weights.

Conventions
    Token ids in (b) are Llama's and mean nothing to Mistral; what counts is that all use the same.
    (b) gives the first logits four times: in float32, and in float16 on three kinds of GPU. These
    differ by up to 0.012, so a tolerance below that would test the GPU and not the weights.
    For bfloat16 nothing is published; its tolerances are chosen, five of its steps at 5.9.
"""

from dataclasses import dataclass, field

import torch

from mistral_edu.config import MistralConfig


@dataclass(frozen=True)
class Tolerance:
    """How far off still passes.

    Args:
        mean: for the mean of a position's logits.
        logit: for one logit.
        gap: for how far a published token may lie below the likeliest one, in logits.
    """

    mean: float
    logit: float
    gap: float


@dataclass(frozen=True)
class Continuation:
    """A prompt, how its greedy continuation begins, and how many tokens to make."""

    prompt: str
    text: str
    new_tokens: int


@dataclass(frozen=True)
class Published:
    """A model's table. `logits` are those at position 0, by the type they were computed in."""

    name: str
    release: str | None
    config: MistralConfig
    tensors: int
    parameters: int
    tokenizer_sha256: str
    ids: list[int]
    mean_logits: list[float]
    logits: dict[torch.dtype, dict[int, float]]
    tolerances: dict[torch.dtype, Tolerance]
    greedy: list[Continuation]
    long_ids: list[int]
    long_ends_in: list[int]
    long_greedy: list[Continuation] = field(default_factory=list)

    def tolerance(self, dtype: torch.dtype) -> Tolerance:
        """The tolerance for weights of a type; float32's for a type of its own."""
        return self.tolerances.get(dtype, self.tolerances[torch.float32])

    def first_logits(self, dtype: torch.dtype) -> dict[int, float]:
        """Logits at position 0 by token id, those of the type if there are any."""
        return self.logits.get(dtype, self.logits[torch.float32])


MISTRAL_7B_V0_1 = Published(
    name="Mistral-7B-v0.1",
    release="v0.1",
    config=MistralConfig.mistral_7b_v0_1(),
    tensors=291,  # a
    parameters=7_241_732_096,  # a
    tokenizer_sha256="dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",  # d
    ids=[1, 306, 4658, 278, 6593, 310, 2834, 338],  # b
    mean_logits=[  # b, ± 0.01
        -2.5548,
        -2.5737,
        -3.0600,
        -2.5906,
        -2.8478,
        -2.8118,
        -2.9325,
        -2.7694,
    ],
    logits={
        # b as of 4.34, and as of 4.36 and later on compute capability 8; both ± 1e-4 there.
        torch.float32: {0: -5.8781, 1: -5.8616, 2: -0.1052, 3: -4.7200, 12: -1.0787, 13: 1.7583},
        torch.float16: {0: -5.8711, 1: -5.8555, 2: -0.1050, 3: -4.7148, 12: -1.0781, 13: 1.7568},
    },
    tolerances={
        torch.float32: Tolerance(mean=1e-2, logit=5e-3, gap=0.02),
        torch.float16: Tolerance(mean=1e-2, logit=2e-2, gap=0.05),
        torch.bfloat16: Tolerance(mean=5e-2, logit=0.15, gap=0.25),
    },
    greedy=[
        # b, float16. In 4 bits the text differs: "… I’m not a fan of mustard, mayo,".
        Continuation(
            "My favourite condiment is ", "100% ketchup. I love it on everything. I’m not a big", 20
        ),
        Continuation("This is a test", " of the emergency broadcast system", 8),  # c
    ],
    long_ids=[1, *[306, 338] * 2048],  # b; 4,097 tokens, one more than the window
    long_ends_in=[306, 338],
    long_greedy=[
        # b, for a batch with a short row; 4,101 tokens.
        Continuation(
            "This is a nice place. " * 682 + "I really enjoy the scenery,",
            " scenery, scenery, scenery, scenery, scenery,",
            20,
        ),
    ],
)
