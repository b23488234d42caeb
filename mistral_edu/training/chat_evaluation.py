"""Marking a chat model: first answers, later answers, and whether it stops by itself.

    held-out dialogue → after each [/INST], greedy decoding → equal to what the assistant said?

Lesson: 12_generation_and_chat.

Conventions
    Earlier turns hold the right answers, as in a conversation that went well so far.
"""

from random import Random

import torch

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.dialogues import Message, dialogue
from mistral_edu.training.documents import dialogue_document
from mistral_edu.training.evaluation import Item

LONGEST_REPLY = 48


def dialogue_items(
    tokenizer: MistralTokenizer, kind: str | None, seed: int, count: int
) -> list[Item]:
    """Every assistant turn of held-out dialogues of one kind, or of all as they come.

    A turn is labelled by its place, and by its kind or by whether there is a system line. It counts
    as right only if its end token is foreseen too.
    """
    items = []
    for number in range(count):
        messages = dialogue(Random(f"held-out dialogue {seed} {number}"), "test", kind)
        system = "with a system line" if messages[0]["role"] == "system" else "without one"
        for place, turn in enumerate(turns(messages)):
            whole, before = (dialogue_document(m, tokenizer) for m in (turn, turn[:-1]))
            order = "first turn" if place == 0 else "second turn" if place == 1 else "later turns"
            labels = (f"all, {order}", system) if kind is None else (f"{kind}, {order}",)
            stops = (tokenizer.eos_id or 0,)
            items.append(Item(whole.ids, len(before), len(whole) - 1, labels, stops))
    return items


def turns(messages: list[Message]) -> list[list[Message]]:
    """The dialogue up to each of the assistant's messages, that message included.

    >>> [len(turn) for turn in turns(dialogue(Random(4), kind="facts"))]
    [2, 4]
    """
    return [
        messages[: place + 1]
        for place, message in enumerate(messages)
        if message["role"] == "assistant"
    ]


@torch.no_grad()
def conversation(model: MistralForCausalLM, tokenizer: MistralTokenizer, number: int) -> str:
    """A held-out dialogue in which the model gives the answers, greedy, one line for each turn."""
    asked = dialogue(Random(f"held-out talk {number}"), "test")
    messages: list[Message] = []
    for message in asked:
        if message["role"] != "assistant":
            messages.append(message)
            continue
        prompt = dialogue_document(messages, tokenizer).ids
        ids = torch.tensor([prompt], device=model.device)
        reply = model.generate(ids, max_new_tokens=LONGEST_REPLY)[0, len(prompt) :].tolist()
        messages.append({"role": "assistant", "content": tokenizer.decode(reply)})
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def share_that_stops(
    model: MistralForCausalLM, tokenizer: MistralTokenizer, seed: int, count: int
) -> float:
    """The share of first turns that greedy decoding really ends within 48 tokens."""
    stopped = 0
    for number in range(count):
        messages = dialogue(Random(f"held-out stop {seed} {number}"), "test")
        prompt = dialogue_document(turns(messages)[0][:-1], tokenizer).ids
        ids = torch.tensor([prompt], device=model.device)
        reply = model.generate(ids, max_new_tokens=LONGEST_REPLY)[0, len(prompt) :]
        stopped += tokenizer.eos_id in reply.tolist()
    return stopped / count
