"""What Slack takes of Block Kit, and what it says of the rest. Fields that it does not know it lets pass.

Source: docs.slack.dev, Block Kit reference.
"""

import math
from collections.abc import Iterator
from typing import Any

from bot.workspace.records import Json

LAYOUT = {
    "section", "divider", "header", "context", "actions", "image", "input", "markdown", "rich_text", "table", "video",
    "file", "call", "context_actions", "alert", "card", "carousel", "plan", "task_card", "data_table", "data_visualization",
    "container",
}  # fmt: skip
MOST_ELEMENTS = {"actions": 25, "context": 10, "context_actions": 5}
OPTION_LISTS = {"static_select", "multi_static_select", "radio_buttons", "checkboxes", "overflow"}
MOST_OPTIONS = {"radio_buttons": 10, "checkboxes": 10, "overflow": 5}
MOST_OF_A_KIND = {"table": 1, "data_visualization": 2}  # in a message; a view takes none
CHARTS = ("bar", "line", "area", "pie")


def block_faults(blocks: Any, *, most: int, in_view: bool = False) -> Iterator[str]:
    """What is wrong with these blocks, each with the place. `in_view`: of a modal or home, not of a message."""
    if not isinstance(blocks, list):
        yield "must provide an array [json-pointer:/blocks]"
        return
    if len(blocks) > most:
        yield f"no more than {most} items allowed [json-pointer:/blocks]"
    for at, block in enumerate(blocks):
        where = f"/blocks/{at}"
        if not isinstance(block, dict) or block.get("type") not in LAYOUT:
            kind = block.get("type") if isinstance(block, dict) else type(block).__name__
            yield f"unsupported type: {kind} [json-pointer:{where}/type]"
        else:
            yield from _one_block(block, where)
    kinds = [block.get("type") for block in blocks if isinstance(block, dict)]
    for kind, allowed in MOST_OF_A_KIND.items():
        if kinds.count(kind) > (0 if in_view else allowed):
            place = "a view" if in_view else "a message"
            yield f"no more than {0 if in_view else allowed} {kind} allowed in {place} [json-pointer:/blocks]"
    ids = [block["block_id"] for block in blocks if isinstance(block, dict) and block.get("block_id")]
    if len(set(ids)) < len(ids):
        yield "`block_id` must be unique [json-pointer:/blocks]"


def _one_block(block: Json, where: str) -> Iterator[str]:
    kind = block["type"]
    if len(str(block.get("block_id") or "")) > 255:
        yield f"must be at most 255 characters [json-pointer:{where}/block_id]"
    if kind == "section":
        yield from _section(block, where)
    elif kind == "header":
        yield from text_faults(block.get("text"), f"{where}/text", most=150, plain=True)
    elif kind == "markdown" and not isinstance(block.get("text"), str):
        yield f"missing required field: text [json-pointer:{where}]"
    elif kind in MOST_ELEMENTS:
        yield from _elements(block, where)
    elif kind == "input":
        yield from text_faults(block.get("label"), f"{where}/label", most=2_000, plain=True)
        yield from _element(block.get("element"), f"{where}/element")
    elif kind == "image":
        yield from _image(block, where)
    elif kind == "table":
        yield from _table(block, where)
    elif kind == "data_visualization":
        yield from _chart(block, where)


def _section(block: Json, where: str) -> Iterator[str]:
    text, fields = block.get("text"), block.get("fields")
    if text is None and not fields:
        yield f"missing required field: text or fields [json-pointer:{where}]"
    if text is not None:
        yield from text_faults(text, f"{where}/text", most=3_000)
    if fields and len(fields) > 10:
        yield f"no more than 10 items allowed [json-pointer:{where}/fields]"
    for at, each in enumerate(fields or []):
        yield from text_faults(each, f"{where}/fields/{at}", most=2_000)
    if block.get("accessory") is not None:
        yield from _element(block["accessory"], f"{where}/accessory")


def _elements(block: Json, where: str) -> Iterator[str]:
    elements, most = block.get("elements"), MOST_ELEMENTS[block["type"]]
    if not isinstance(elements, list) or not elements:
        yield f"missing required field: elements [json-pointer:{where}]"
        return
    if len(elements) > most:
        yield f"no more than {most} items allowed [json-pointer:{where}/elements]"
    for at, each in enumerate(elements):
        if block["type"] == "context" and isinstance(each, dict) and each.get("type") in ("mrkdwn", "plain_text"):
            yield from text_faults(each, f"{where}/elements/{at}", most=3_000)
        else:
            yield from _element(each, f"{where}/elements/{at}")


def _element(element: Any, where: str) -> Iterator[str]:
    if not isinstance(element, dict) or not isinstance(element.get("type"), str):
        yield f"missing required field: type [json-pointer:{where}]"
        return
    for name, most in (("action_id", 255), ("value", 2_000), ("initial_value", 3_000), ("url", 3_000)):
        if len(str(element.get(name) or "")) > most:
            yield f"must be at most {most} characters [json-pointer:{where}/{name}]"
    if element["type"] == "button":
        yield from text_faults(element.get("text"), f"{where}/text", most=75, plain=True)
    if element["type"] == "feedback_buttons":
        for side in ("positive_button", "negative_button"):
            button = element.get(side)
            yield from text_faults((button or {}).get("text"), f"{where}/{side}/text", most=75, plain=True)
            if len(str((button or {}).get("value") or "")) > 2_000:
                yield f"must be at most 2000 characters [json-pointer:{where}/{side}/value]"
    if element["type"] in OPTION_LISTS:
        yield from _options(element, where)
    if element["type"] == "image":
        yield from _image(element, where)
    if element.get("confirm") is not None:
        yield from _confirm(element["confirm"], f"{where}/confirm")


def _confirm(confirm: Any, where: str) -> Iterator[str]:
    if not isinstance(confirm, dict):
        yield f"must be an object [json-pointer:{where}]"
        return
    for part, most in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
        yield from text_faults(confirm.get(part), f"{where}/{part}", most=most, plain=part != "text")


def _image(image: Json, where: str) -> Iterator[str]:
    if not image.get("image_url") and not image.get("slack_file"):
        yield f"missing required field: image_url or slack_file [json-pointer:{where}]"
    if not isinstance(image.get("alt_text"), str):
        yield f"missing required field: alt_text [json-pointer:{where}]"
    for name, most in (("image_url", 3_000), ("alt_text", 2_000)):
        if len(str(image.get(name) or "")) > most:
            yield f"must be at most {most} characters [json-pointer:{where}/{name}]"
    if image.get("title") is not None:
        yield from text_faults(image["title"], f"{where}/title", most=2_000, plain=True)


def _options(element: Json, where: str) -> Iterator[str]:
    options, most = element.get("options"), MOST_OPTIONS.get(element["type"], 100)
    if not options and not element.get("option_groups"):
        yield f"missing required field: options [json-pointer:{where}]"
    if options and len(options) > most:
        yield f"no more than {most} items allowed [json-pointer:{where}/options]"
    for at, option in enumerate(options or []):
        yield from text_faults(option.get("text"), f"{where}/options/{at}/text", most=75)
        if len(str(option.get("value") or "")) > 150:
            yield f"must be at most 150 characters [json-pointer:{where}/options/{at}/value]"


def _table(block: Json, where: str) -> Iterator[str]:
    rows = block.get("rows")
    if not isinstance(rows, list) or not rows:
        yield f"missing required field: rows [json-pointer:{where}]"
        return
    if len(rows) > 100 or any(len(row) > 20 for row in rows):
        yield f"no more than 100 rows of 20 cells allowed [json-pointer:{where}/rows]"
    if sum(len(str(cell.get("text") or cell.get("elements") or "")) for row in rows for cell in row) > 10_000:
        yield f"must be at most 10000 characters [json-pointer:{where}/rows]"


def _chart(block: Json, where: str) -> Iterator[str]:
    """One to twelve series (or segments of a pie), each with a number for every one of at most twenty categories."""
    title, chart = block.get("title"), block.get("chart")
    if not isinstance(title, str) or not 1 <= len(title) <= 50:
        yield f"must be text of 1 to 50 characters [json-pointer:{where}/title]"
    if not isinstance(chart, dict) or chart.get("type") not in CHARTS:
        yield f"must be an object of type {', '.join(CHARTS)} [json-pointer:{where}/chart]"
        return
    if chart["type"] == "pie":
        yield from _points(chart.get("segments"), f"{where}/chart/segments", most=12)
        return
    series = chart.get("series")
    if not isinstance(series, list) or not 1 <= len(series) <= 12:
        yield f"must have 1 to 12 items [json-pointer:{where}/chart/series]"
        return
    for at, each in enumerate(series):
        if not isinstance(each, dict) or not 1 <= len(str(each.get("name") or "")) <= 20:
            yield f"must have a name of 1 to 20 characters [json-pointer:{where}/chart/series/{at}]"
        else:
            yield from _points(each.get("data"), f"{where}/chart/series/{at}/data", most=20)


def _points(points: Any, where: str, *, most: int) -> Iterator[str]:
    if not isinstance(points, list) or not 1 <= len(points) <= most:
        yield f"must have 1 to {most} items [json-pointer:{where}]"
        return
    for at, point in enumerate(points):
        value = point.get("value") if isinstance(point, dict) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            yield f"must have a finite value [json-pointer:{where}/{at}/value]"
        elif not 1 <= len(str(point.get("label") or "")) <= 20:
            yield f"must have a label of 1 to 20 characters [json-pointer:{where}/{at}/label]"


def text_faults(text: Any, where: str, *, most: int, plain: bool = False) -> Iterator[str]:
    """What is wrong with a text object."""
    kinds = ("plain_text",) if plain else ("plain_text", "mrkdwn")
    if not isinstance(text, dict) or text.get("type") not in kinds or not isinstance(text.get("text"), str):
        yield f"must be a text object of type {' or '.join(kinds)} [json-pointer:{where}]"
    elif not text["text"]:
        yield f"must be more than 0 characters [json-pointer:{where}/text]"
    elif len(text["text"]) > most:
        yield f"must be less than {most + 1} characters [json-pointer:{where}/text]"
