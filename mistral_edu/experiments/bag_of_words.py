"""A bag of words: a text is how often each word is in it, and a linear layer reads the counts.

    scores = W · counts + b,    loss = mean of −log softmax(scores)[label] + |W|² / 2N

The plain way to classify, held against models that read in order. It cannot know which word goes
with which: two texts of the same words are the same text. Pairs of neighbours ("bigrams") count as
words of their own if asked for, which sees one step of order and no more.
Lesson: 10_heads_and_training.

Conventions
    Capitals do not count, neither do signs. A word that training has not seen counts for nothing.
    The loss is convex and starts from zero, so no seed is needed.
"""

import re
from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

WORD = re.compile(r"\w+(?:[-’']\w+)*")


def terms(text: str, longest: int) -> list[str]:
    """The words of a text in order, then its runs of 2 to `longest` words.

    >>> terms("The birds flew low.", 2)
    ['the', 'birds', 'flew', 'low', 'the birds', 'birds flew', 'flew low']
    """
    words = WORD.findall(text.lower())
    return [
        " ".join(words[start : start + size])
        for size in range(1, longest + 1)
        for start in range(len(words) - size + 1)
    ]


class BagOfWords:
    """A linear classifier of counted words.

    Args:
        texts: what to learn from.
        labels: the class of each, from 0.
        longest: 1 counts words; 2 counts pairs of neighbours too.
        iterations: of L-BFGS, at most.

    Raises:
        ValueError: for no texts, or another number of labels.

    >>> bag = BagOfWords(["Rain fell.", "Sun shone.", "Rain again.", "Sun again."], [1, 0, 1, 0])
    >>> bag.predict(["Such rain!", "Such sun!"])
    [1, 0]
    """

    def __init__(
        self, texts: Sequence[str], labels: Sequence[int], longest: int = 1, iterations: int = 200
    ) -> None:
        if not texts or len(texts) != len(labels):
            raise ValueError(f"{len(texts)} texts and {len(labels)} labels: give a label to each")
        self.longest = longest
        known = sorted(set(chain.from_iterable(terms(text, longest) for text in texts)))
        self.number = {term: place for place, term in enumerate(known)}
        self.weight = torch.zeros(len(known), max(labels) + 1, requires_grad=True)
        self.bias = torch.zeros(max(labels) + 1, requires_grad=True)
        self._fit(texts, torch.tensor(labels), iterations)

    def _fit(self, texts: Sequence[str], labels: Int[Tensor, "N"], iterations: int) -> None:
        counted = self._counted(texts)
        descent = torch.optim.LBFGS(
            [self.weight, self.bias], max_iter=iterations, line_search_fn="strong_wolfe"
        )

        def loss() -> float:
            descent.zero_grad()
            found = functional.cross_entropy(self._scores(*counted), labels)
            found = found + self.weight.square().sum() / (2 * len(labels))
            found.backward()
            return found.item()

        descent.step(loss)

    def _counted(self, texts: Sequence[str]) -> tuple[Int[Tensor, "terms"], Int[Tensor, "N"]]:
        """The numbers of all known terms, one text after another, and where each text begins."""
        rows = [
            [self.number[term] for term in terms(text, self.longest) if term in self.number]
            for text in texts
        ]
        sizes = torch.tensor([0, *(len(row) for row in rows)])
        return torch.tensor(list(chain.from_iterable(rows)), dtype=torch.long), sizes.cumsum(0)[:-1]

    def _scores(
        self, numbers: Int[Tensor, "terms"], starts: Int[Tensor, "N"]
    ) -> Float[Tensor, "N classes"]:
        # Summing a row of W for every term is multiplying W by the counts.
        return functional.embedding_bag(numbers, self.weight, starts, mode="sum") + self.bias

    @torch.no_grad()
    def predict(self, texts: Sequence[str]) -> list[int]:
        """The likeliest class of each text."""
        predicted: list[int] = self._scores(*self._counted(texts)).argmax(dim=1).tolist()
        return predicted
