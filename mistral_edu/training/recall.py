"""Recall probes: a few facts, d tokens of scenery, and a question about one of the facts.

    facts · scenery · Question: … Answer: …        d = tokens from the answer's source to the answer

With a window of W, an answer further back than W − 1 tokens cannot be looked up: some layer must
have carried it along. Lesson: 15_long_context.

Conventions
    Distances are in tokens of whatever `measure` counts with; sentences are not cut, so a probe
    comes close to the distance asked for and reports the one it has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mistral_edu.training import scenery
from mistral_edu.training.facts import RELATIONS, Fact, draw_facts
from mistral_edu.training.valley import Question

Measure = Callable[[str], int]


@dataclass(frozen=True)
class Probe:
    """A text with one question.

    Args:
        prompt: facts, scenery and question, up to and including "Answer:".
        question: what is asked.
        distance: tokens from the end of the sentence that tells the fact to the answer.
    """

    prompt: str
    question: Question
    distance: int

    @property
    def text(self) -> str:
        """The prompt with its answer."""
        return f"{self.prompt} {self.question.answer}"


def recall_probe(
    random: Random, distance: int, measure: Measure, facts: int = 1, split: str = "train"
) -> Probe:
    """Make a probe with about `distance` tokens between a fact and the answer to its question.

    Args:
        random: the stream to draw from.
        distance: d, in tokens; at least the length of the question.
        measure: counts the tokens of a text.
        facts: how many facts stand at the beginning, 1 to 6; one of them is asked.
        split: whose pairs of names the people are.

    >>> probe = recall_probe(Random(0), 40, measure=lambda text: len(text.split()))
    >>> probe.distance in range(30, 48), probe.question.answer in probe.prompt
    (True, True)
    """
    told = draw_facts(random, random.choice(RELATIONS), facts, split)
    asked = random.randrange(facts)
    question = random.choice(told[asked].questions)
    ending = f"\n\nQuestion: {question.ask}\nAnswer:"
    sentences = [fact.sentence for fact in told]
    used = measure(" ".join(sentences[asked + 1 :])) + measure(ending)
    while used < distance:
        sentences.append(scenery.sentence(random))
        used += measure(sentences[-1])
    return Probe(" ".join(sentences) + ending, question, used)


def recall_stream(
    random: Random, length: int, farthest: int, measure: Measure, split: str = "train"
) -> str:
    """Make a long text in which facts come and go: each is asked once, some distance further on.

    Args:
        random: the stream to draw from.
        length: about how many tokens the text has.
        farthest: the largest distance between a fact and its question, in tokens.
        measure: counts the tokens of a text.
        split: whose pairs of names the people are.

    >>> text = recall_stream(Random(1), 200, 60, measure=lambda text: len(text.split()))
    >>> 3 < text.count("Answer:") < 12
    True
    """
    pieces, used, told = [], 0, set[str]()
    waiting: list[tuple[int, Question]] = []
    at_once = random.randint(1, 4)
    while used < length or waiting:
        if waiting and waiting[0][0] <= used:
            question = waiting.pop(0)[1]
            pieces.append(f"\n\nQuestion: {question.ask}\nAnswer: {question.answer}\n\n")
        elif used < length and len(waiting) < at_once and random.random() < 0.5:
            fact = _new_fact(random, told, split)
            pieces.append(fact.sentence + " ")
            due = used + random.randint(min(20, farthest), farthest)
            waiting = sorted([*waiting, (due, random.choice(fact.questions))], key=_when)
        else:
            pieces.append(scenery.sentence(random) + " ")
        used += measure(pieces[-1])
    return "".join(pieces).replace(" \n", "\n").strip()


def _when(entry: tuple[int, Question]) -> int:
    return entry[0]


def _new_fact(random: Random, told: set[str], split: str) -> Fact:
    """A fact that shares neither key nor value with those told: no question has two answers."""
    while True:
        (fact,) = draw_facts(random, random.choice(RELATIONS), 1, split)
        words = {question.answer for question in fact.questions} | {fact.questions[0].ask}
        if not words & told:
            told |= words
            return fact
