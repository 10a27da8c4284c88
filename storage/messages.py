"""How a question becomes the messages that a model is sent: the same in serving, training and scoring."""

from collections.abc import Sequence

from storage.records import Message


def conversation(system: str, history: Sequence[Message], question: str) -> tuple[Message, ...]:
    """System prompt, earlier turns of the thread (oldest first), then the question."""
    opening = ({"role": "system", "content": system},) if system else ()
    return (*opening, *history, {"role": "user", "content": question})
