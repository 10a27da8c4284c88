"""How a question becomes the messages that a model is sent: the same in serving, training and scoring."""

from collections.abc import Sequence

from storage.records import Message


def conversation(system: str, history: Sequence[Message], question: str) -> tuple[Message, ...]:
    """System prompt, earlier turns of the thread (oldest first), then the question."""
    opening = ({"role": "system", "content": system},) if system else ()
    return (*opening, *history, {"role": "user", "content": question})


def alone(messages: Sequence[Message]) -> list[Message]:
    """The same without the earlier turns: system prompt and question."""
    return [message for message in messages[:-1] if message["role"] == "system"] + list(messages[-1:])
