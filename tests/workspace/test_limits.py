"""What Slack takes of blocks and views; each refusal names the place."""

from typing import Any

import pytest

from bot.workspace import limits
from bot.workspace.refused import Refused

Json = dict[str, Any]


def text(words: str, kind: str = "plain_text") -> Json:
    return {"type": kind, "text": words}


def acts(*elements: Json, kind: str = "actions") -> Json:
    return {"type": kind, "elements": list(elements)}


def button(**more: Any) -> Json:
    return {"type": "button", "action_id": "a", "text": text("Go"), **more}


def confirm(**more: Any) -> Json:
    return {"title": text("Sure?"), "text": text("It goes live.", "mrkdwn"), "confirm": text("Yes"), "deny": text("No"), **more}  # fmt: skip


def chart(kind: str = "bar", points: int = 3, **more: Any) -> Json:
    data = [{"label": f"{n}", "value": n} for n in range(points)]
    inner = {"segments": data} if kind == "pie" else {"series": [{"name": "tuned", "data": data}]}
    return {"type": "data_visualization", "title": "Gain", "chart": {"type": kind, **inner}, **more}


def table(rows: int = 2, columns: int = 2) -> Json:
    return {"type": "table", "rows": [[{"type": "raw_text", "text": "x"}] * columns] * rows}


IMAGE = {"type": "image", "image_url": "https://a.example/x.png", "alt_text": "x"}

TAKEN: list[list[Json]] = [
    [acts(*[button(action_id=f"{n}") for n in range(25)])],
    [acts(button(confirm=confirm(title=text("x" * 100), text=text("x" * 300), deny=text("x" * 30))))],
    [table(100, 20)],
    [chart(), chart("line")],
    [chart("pie", 12), chart("area", 20)],
    [{"type": "section", "text": text("x"), "an unknown field": {"is": "let through"}}],
    [{"type": "image", "slack_file": {"id": "F1"}, "alt_text": ""}],
]


@pytest.mark.parametrize("blocks", TAKEN)
def test_what_fits_is_taken(blocks: list[Json]) -> None:
    limits.check_blocks(blocks, most=limits.MESSAGE_BLOCKS)


REFUSED: list[tuple[list[Json], str]] = [
    ([acts(*[button(action_id=f"{n}") for n in range(26)])], "/blocks/0/elements"),
    ([acts(*[button(action_id=f"{n}") for n in range(6)], kind="context_actions")], "/blocks/0/elements"),
    ([acts(button(confirm=confirm(title=text("x" * 101))))], "/confirm/title/text"),
    ([acts(button(confirm=confirm(text=text("x" * 301))))], "/confirm/text/text"),
    ([acts(button(confirm=confirm(deny=text("x" * 31))))], "/confirm/deny/text"),
    ([acts(button(confirm={"title": text("x")}))], "/confirm/text"),
    ([acts({"type": "static_select", "options": [{"text": text("x"), "value": "v"}] * 101})], "/elements/0/options"),
    ([table(101)], "/blocks/0/rows"),
    ([table(2, 21)], "/blocks/0/rows"),
    ([table(), table()], "no more than 1 table"),
    ([chart()] * 3, "no more than 2 data_visualization"),
    ([chart(title="x" * 51)], "/blocks/0/title"),
    ([chart("radar")], "/blocks/0/chart"),
    ([chart("line", 21)], "/series/0/data"),
    ([chart("pie", 13)], "/chart/segments"),
    ([{**chart(), "chart": {"type": "bar", "series": [{"name": "x", "data": [{"label": "a", "value": float("nan")}]}]}}],
     "/data/0/value"),
    ([{"type": "image", "image_url": "https://a.example/x.png"}], "alt_text"),
    ([{"type": "image", "alt_text": "x"}], "image_url or slack_file"),
]  # fmt: skip


@pytest.mark.parametrize(("blocks", "where"), REFUSED)
def test_what_does_not_fit_is_refused_with_its_place(blocks: list[Json], where: str) -> None:
    with pytest.raises(Refused, match="invalid_blocks") as caught:
        limits.check_blocks(blocks, most=limits.MESSAGE_BLOCKS)

    assert where in str(caught.value.details["response_metadata"])


@pytest.mark.parametrize("block", [table(), chart()])
def test_tables_and_charts_are_for_messages(block: Json) -> None:
    with pytest.raises(Refused, match="invalid_arguments") as caught:
        limits.view({"type": "home", "blocks": [block]}, kind="home")

    assert "allowed in a view" in str(caught.value.details)


def test_a_view_of_a_hundred_blocks_is_taken() -> None:
    blocks = [*[{"type": "divider"}] * 99, IMAGE]

    assert limits.view({"type": "home", "blocks": blocks, "private_metadata": "x" * 3_000}, kind="home")["blocks"]
    with pytest.raises(Refused):
        limits.view({"type": "home", "blocks": [*blocks, IMAGE]}, kind="home")
