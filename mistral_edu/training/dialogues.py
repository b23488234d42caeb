"""Dialogues for the chat model: a reader with a text, questions one after another, small talk.

    system line? · user · assistant · user · assistant …      assistant turns are what is learned

Lesson: 12_generation_and_chat.

Conventions
    Messages are dicts with "role" and "content", as chat libraries have them. A system line comes
    first if there is one; then user and assistant alternate, the assistant last.
"""

from collections.abc import Callable
from random import Random

from mistral_edu.training import vocabulary as words
from mistral_edu.training.facts import RELATIONS, Fact, draw_facts
from mistral_edu.training.valley import Question
from mistral_edu.training.world import IN_PIECES, SHAPES, tell

Message = dict[str, str]
Turns = list[tuple[str, str]]
HELPERS = ("Mistral", "Zéphyr", "Cigale", "Lavande", "Olive", "Tramontane", "Garrigue", "Mas")
GREETINGS = ("Bonjour!", "Bon vent!", "Adieu!", "Salut!", "Hello!")
ACKNOWLEDGED = "I will remember that."
ASK_TO_READ = ("Read this.", "Here is a text.", "Please read this text.", "Listen.")
READ = (*IN_PIECES, "glimpse", "glimpse", "glimpse")
GO_ON = ("It goes on.", "Here is more.", "Then:", "Next:")


def said(answer: str) -> str:
    """An answer as the assistant says it.

    >>> said("in the barn")
    'in the barn.'
    """
    return f"{answer}."


def about_a_text(random: Random, split: str) -> Turns:
    """A whole story and a question; then up to three further questions about the same story."""
    story = tell(random, tuple(SHAPES), split)
    first, *others = story.questions[: random.randint(1, 4)]
    opening = f"{random.choice(ASK_TO_READ)}\n{story.body}\n\n{first.ask}"
    return [(opening, said(first.answer)), *((q.ask, said(q.answer)) for q in others)]


def about_pieces(random: Random, split: str) -> Turns:
    """A story piece by piece, after each a question that it answers."""
    pieces = [(text, q) for text, q in tell(random, READ, split).pieces if q]
    start = random.randrange(len(pieces))
    turns: Turns = []
    for text, asked in pieces[start : start + random.randint(1, 4)]:
        invitation = random.choice(GO_ON if turns else ASK_TO_READ)
        first, *others = asked
        turns.append((f"{invitation}\n{text}\n\n{first.ask}", said(first.answer)))
        turns += [(q.ask, said(q.answer)) for q in others[: random.randint(0, 1)]]
    return turns


def about_facts(random: Random, split: str) -> Turns:
    """One to three facts and a question about one of them; then perhaps about the others."""
    told = draw_facts(random, random.choice(RELATIONS), random.randint(1, 3), split)
    first, *others = _questions(random, told)
    opening = f"{' '.join(fact.sentence for fact in told)} {first.ask}"
    return [(opening, said(first.answer)), *((q.ask, said(q.answer)) for q in others)]


def about_told_facts(random: Random, split: str) -> Turns:
    """The user tells some facts, the assistant takes note, then the user asks."""
    told = draw_facts(random, random.choice(RELATIONS), random.randint(1, 3), split)
    opening = " ".join(fact.sentence for fact in told)
    asked = _questions(random, told)
    return [(opening, ACKNOWLEDGED), *((q.ask, said(q.answer)) for q in asked)]


def _questions(random: Random, told: list[Fact]) -> list[Question]:
    """One question about each of some facts, in any order."""
    return [random.choice(f.questions) for f in random.sample(told, random.randint(1, len(told)))]


def small_talk(random: Random, split: str) -> Turns:
    """Sums, days, counting and courtesy, which need no text."""
    turns = []
    for _ in range(random.randint(1, 4)):
        a, b = random.randint(1, 9), random.randint(1, 9)
        day = random.randrange(7)
        turns.append(
            random.choice(
                (
                    (f"What is {a} plus {b}?", said(str(a + b))),
                    (f"Which day comes after {words.DAYS[day]}?", said(words.DAYS[(day + 1) % 7])),
                    (f"Which day comes before {words.DAYS[day]}?", said(words.DAYS[day - 1])),
                    (f"Count from 1 to {a}.", said(" ".join(str(n) for n in range(1, a + 1)))),
                    ("Thank you!", "You are welcome."),
                    ("How are you?", "I am well, the mistral is blowing."),
                )
            )
        )
    return turns


KINDS: dict[str, Callable[[Random, str], Turns]] = {
    "facts": about_facts,
    "told facts": about_told_facts,
    "story in pieces": about_pieces,
    "small talk": small_talk,
    "whole story": about_a_text,
}
SHARES = (7, 5, 4, 3, 1)


def dialogue(random: Random, split: str = "train", kind: str | None = None) -> list[Message]:
    """Make a dialogue; one in three has a system line that names or instructs the assistant.

    Args:
        random: the stream to draw from.
        split: whose pairs of names the people are ("train" or "test").
        kind: a name in `KINDS`; drawn if None.

    >>> [message["role"] for message in dialogue(Random(0), kind="small talk")][:2]
    ['user', 'assistant']
    """
    (drawn,) = random.choices(list(KINDS), SHARES)
    turns = KINDS[kind or drawn](random, split)
    messages: list[Message] = []
    style = random.randrange(6)
    if style == 0:
        helper = random.choice(HELPERS)
        messages.append({"role": "system", "content": f"Your name is {helper}."})
        turns.insert(random.randint(0, 1), ("What is your name?", said(helper)))
    if style == 1:
        greeting = random.choice(GREETINGS)
        messages.append({"role": "system", "content": f"Begin every answer with “{greeting}”"})
        turns = [(user, f"{greeting} {answer}") for user, answer in turns]
    for user, answer in turns:
        messages += [
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer},
        ]
    return messages
