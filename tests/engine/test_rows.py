"""What of a growing answer is shown: whole characters, nothing of a stop text, and at the end exactly what was said."""

from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from bot.engine.rows import Ask, End, Row

END = 256
RENDERER: Any = SimpleNamespace(end_ids=frozenset({END}), decode=lambda ids: bytes(ids).decode("utf-8", "replace"))
TEXT = st.text(alphabet=st.sampled_from("ab#é€😀\n"), max_size=40)
STOPS = st.lists(st.text(alphabet=st.sampled_from("ab#é€\n"), min_size=1, max_size=3), max_size=3).map(tuple)


def spoken(text: str, stop: tuple[str, ...] = (), most: int = 1_000) -> tuple[list[str], str]:
    """The pieces that were shown of a text that is said byte by byte, and how the row ended."""
    pieces: list[str | End] = []
    ask = Ask(role="user", adapter=None, prompt=[1], max_new_tokens=most, stop=stop, emit=pieces.append)
    row = Row(ask=ask, asked_at=0.0, cache=None, unread=[], draw=torch.Generator())
    for token in (*text.encode(), END):
        if ended := row.take(token, -0.1, RENDERER):
            return [str(piece) for piece in pieces], ended
    raise AssertionError("it did not end")


def before_the_first_stop(text: str, stop: tuple[str, ...]) -> str:
    for size in range(1, len(text) + 1):
        if found := [text[:size].index(s) for s in stop if s in text[:size]]:
            return text[: min(found)]
    return text


@given(TEXT, STOPS)
def test_what_is_shown_is_what_was_said_before_a_stop_in_whole_characters(text: str, stop: tuple[str, ...]) -> None:
    pieces, ended = spoken(text, stop)

    assert "".join(pieces) == before_the_first_stop(text, stop) and ended == "stop"
    assert "\ufffd" not in "".join(pieces)


def test_a_character_of_four_tokens_is_shown_once_it_is_whole() -> None:
    assert spoken("a😀b") == (["a", "😀", "b"], "stop")


def test_the_beginning_of_a_stop_is_held_back_until_it_is_none() -> None:
    assert spoken("a##b###c", ("###",)) == (["a", "##b"], "stop")
    assert spoken("a##", ("###",)) == (["a", "##"], "stop")


def test_at_the_last_token_even_half_a_character_is_shown_as_what_it_is() -> None:
    assert spoken("a😀", most=3) == (["a", "\ufffd"], "length")
