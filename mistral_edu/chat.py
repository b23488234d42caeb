"""Chat: a conversation as the ids that an instruct model was trained to read.

    bos  ▁[INST]▁question▁[/INST]  ▁answer eos  ▁[INST]▁question▁[/INST]  …

There is no special token but bos and eos: [INST] is text, spelled in ordinary pieces. So all that
can go wrong is a space, and it does. "Hi" after a space is another piece than "Hi" without one, and
three published ways to write the same conversation put different spaces around an answer:

    rendering          after [/INST]   after eos       after bos
    mistral-common     ▁Hi             ▁[              ▁[
    hf-legacy          Hi              ▁ ▁[            ▁[
    hf-not-legacy      Hi              ▁[              [

Source: the `mistral-common` package, version 1 of the format, which the models were trained with;
the others are the chat template in the folder of Mistral-7B-Instruct-v0.1 read by `LlamaTokenizer`
with legacy=True, and by the slow one with legacy=False. Built in lesson 12.

Conventions: a message is {"role": "system", "user" or "assistant", "content": text}. Each segment
is encoded by itself and control ids are added as ids, never as text, so nothing that a message says
can become one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import groupby
from typing import NamedTuple

BETWEEN = "\n\n"
ROLES = ("system", "user", "assistant")


class ChatError(ValueError):
    """A conversation that has no rendering; the message names what is wrong with it."""


class Control(Enum):
    """The two control pieces of the format; each stands for one id."""

    BOS = "bos"
    EOS = "eos"


Segment = str | Control


class Turn(NamedTuple):
    """What one side says before the other side speaks; the role is "user" or "assistant"."""

    role: str
    text: str


def check_messages(messages: Sequence[Mapping[str, str]]) -> None:
    """Raise ChatError, naming the message and the next step, unless `turns` can read them all.

    >>> check_messages([{"role": "user", "content": "Hello"}])
    """
    if not messages:
        raise ChatError("the conversation is empty, expected at least one message")
    for index, message in enumerate(messages):
        if set(message) != {"role", "content"} or not isinstance(message["content"], str):
            raise ChatError(
                f"message {index} is {message!r}, expected a role and a content that is text"
            )
        if message["role"] not in ROLES:
            raise ChatError(
                f"message {index} has the role {message['role']!r}, expected one of {ROLES}; "
                "this format has no tools"
            )
        if message["role"] == "assistant" and not message["content"]:
            raise ChatError(f"message {index}, of the assistant, is empty; leave it out")
    roles = [message["role"] for message in messages]
    if roles == ["assistant"]:
        raise ChatError("the only message is the assistant's; put a user's or system message first")
    for index, pair in enumerate(zip(roles, roles[1:], strict=False), start=1):
        if pair == ("assistant", "system"):
            raise ChatError(
                f"message {index} is a system message after an assistant's; put it at the start"
            )


def turns(messages: Sequence[Mapping[str, str]]) -> list[Turn]:
    """Bring messages into the form that is rendered, by the rules of `mistral-common`.

    All system messages go to the front of the first user message. Neighbours of one role become one
    turn, with an empty line between them. An answer that nothing came before answers an empty user.

    Raises ChatError as `check_messages` does.

    >>> turns([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}])
    [Turn(role='user', text='Be kind.\\n\\nHello')]
    """
    check_messages(messages)
    system = _joined(each["content"] for each in messages if each["role"] == "system")
    found = [
        Turn(role, _joined(each["content"] for each in group))
        for role, group in groupby(messages, key=lambda each: each["role"])
        if role != "system"
    ]
    if not found or found[0].role != "user":
        found.insert(0, Turn("user", ""))
    if system:
        found[0] = Turn("user", system + BETWEEN + found[0].text)
    return found


def _joined(texts: Iterable[str]) -> str:
    return BETWEEN.join(text for text in texts if text)


def segment_wise(conversation: Sequence[Turn]) -> list[Segment]:
    """Render as `mistral-common` does: every turn is a segment of its own.

    >>> segment_wise([Turn("user", "Hello"), Turn("assistant", "Hi there")])
    [<Control.BOS: 'bos'>, '[INST] Hello [/INST]', 'Hi there', <Control.EOS: 'eos'>]
    """
    segments: list[Segment] = [Control.BOS]
    for role, text in conversation:
        segments += [_instruction(text)] if role == "user" else [text, Control.EOS]
    return segments


def one_string(conversation: Sequence[Turn]) -> list[Segment]:
    """Render as the template does: one string, which bos and eos cut into segments.

    An answer stands directly behind [/INST], and a space follows every eos.

    >>> one_string([Turn("user", "Hello"), Turn("assistant", "Hi there")])
    [<Control.BOS: 'bos'>, '[INST] Hello [/INST]Hi there', <Control.EOS: 'eos'>, ' ']
    """
    segments: list[Segment] = [Control.BOS]
    begun = ""
    for role, text in conversation:
        if role == "user":
            begun += _instruction(text)
        else:
            segments += [begun + text, Control.EOS]
            begun = " "
    return [*segments, begun] if begun else segments


def _instruction(text: str) -> str:
    return f"[INST] {text} [/INST]"


class Rendering(NamedTuple):
    """One way to write a conversation.

    Arguments:
        segments: the function that cuts it up.
        keeps_prefix: whether a segment gets the space in front that encoding puts before a text.
    """

    segments: Callable[[Sequence[Turn]], list[Segment]]
    keeps_prefix: bool


RENDERINGS = {
    "mistral-common": Rendering(segment_wise, keeps_prefix=True),
    "hf-legacy": Rendering(one_string, keeps_prefix=True),
    "hf-not-legacy": Rendering(one_string, keeps_prefix=False),
}


def render(
    messages: Sequence[Mapping[str, str]],
    rendering: str = "mistral-common",
    continue_final_message: bool = False,
) -> list[Segment]:
    """Render a conversation as segments: texts to encode one by one, and control pieces.

    Arguments:
        messages: who said what, oldest first. After a user message the model answers; after an
            assistant message the conversation is closed with eos, as training wants it.
        rendering: a name in `RENDERINGS`; a model answers best in the one it was trained with.
        continue_final_message: leave out the last eos, so that the model goes on with the answer.

    Raises:
        ChatError: the messages have no rendering, or there is no answer to continue.
        ValueError: the rendering is unknown.

    >>> render([{"role": "user", "content": "Hello"}])
    [<Control.BOS: 'bos'>, '[INST] Hello [/INST]']
    """
    if rendering not in RENDERINGS:
        raise ValueError(f"rendering is {rendering!r}, expected one of {list(RENDERINGS)}")
    segments = RENDERINGS[rendering].segments(turns(messages))
    if not continue_final_message:
        return segments
    if messages[-1]["role"] != "assistant":
        raise ChatError(
            f"the last message is the {messages[-1]['role']}'s, so there is no answer to continue; "
            "put the beginning of one there or leave continue_final_message out"
        )
    last = max(place for place, segment in enumerate(segments) if segment is Control.EOS)
    return segments[:last]


def to_ids(
    segments: Sequence[Segment], encode: Callable[[str], list[int]], bos_id: int, eos_id: int
) -> list[int]:
    """Encode the texts one by one and put each control id where its piece stands.

    >>> to_ids([Control.BOS, "ab", Control.EOS], lambda text: [len(text) + 7], bos_id=1, eos_id=2)
    [1, 9, 2]
    """
    ids: list[int] = []
    for segment in segments:
        if isinstance(segment, Control):
            ids.append(bos_id if segment is Control.BOS else eos_id)
        else:
            ids += encode(segment)
    return ids
