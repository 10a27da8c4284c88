"""How much Slack takes, and the code with which it refuses more.

Source: docs.slack.dev, Block Kit reference and the pages of the methods; `chat.update`'s 4,000 and the markdown
block's 12,000 for a whole message are as measured by others.
"""

from collections.abc import Iterator
from typing import Any

from bot.workspace.records import Json
from bot.workspace.refused import Refused

TEXT, UPDATED_TEXT, MARKDOWN = 40_000, 4_000, 12_000
MESSAGE_BLOCKS, VIEW_BLOCKS = 50, 100
PRIVATE_METADATA, METADATA = 3_000, 8_000

LAYOUT = {
    "section", "divider", "header", "context", "actions", "image", "input", "markdown", "rich_text", "table", "video",
    "file", "call", "context_actions", "alert", "card", "carousel", "plan", "task_card", "data_table", "data_visualization",
    "container",
}  # fmt: skip
MOST_ELEMENTS = {"actions": 25, "context": 10, "context_actions": 5}
OPTION_LISTS = {"static_select", "multi_static_select", "radio_buttons", "checkboxes", "overflow"}
MOST_OPTIONS = {"radio_buttons": 10, "checkboxes": 10, "overflow": 5}


def content(given: Json, *, updated: bool = False) -> Json:
    """The text, blocks … of a message, cut and checked. Raises Refused with the real code."""
    text, blocks, markdown = given.get("text"), given.get("blocks"), given.get("markdown_text")
    if markdown is not None:
        return _markdown(str(markdown), conflicts=bool(text or blocks))
    if not text and not blocks and not given.get("attachments"):
        raise Refused("no_text")
    text = str(text or "")
    if updated and len(text) > UPDATED_TEXT:
        raise Refused("msg_too_long")
    checked: Json = {"text": text[:TEXT]}
    if blocks is not None:
        check_blocks(blocks, most=MESSAGE_BLOCKS)
        checked["blocks"] = blocks
    if given.get("attachments"):
        checked["attachments"] = given["attachments"]
    return checked


def _markdown(text: str, *, conflicts: bool) -> Json:
    if conflicts:
        raise Refused("markdown_text_conflict")
    if not text:
        raise Refused("no_text")
    if len(text) > MARKDOWN:
        raise Refused("msg_too_long")
    return {"text": text, "blocks": [{"type": "markdown", "text": text}]}


def metadata(given: Any) -> Json:
    """Raises Refused invalid_metadata_format, metadata_too_large."""
    whole = isinstance(given, dict) and isinstance(given.get("event_type"), str)
    if not whole or not isinstance(given.get("event_payload"), dict):
        raise Refused("invalid_metadata_format")
    if len(str(given)) > METADATA:
        raise Refused("metadata_too_large")
    return dict(given)


def view(given: Any, *, kind: str) -> Json:
    """A modal or a home. Raises Refused invalid_arguments with what is wrong."""
    if not isinstance(given, dict) or given.get("type") != kind:
        raise _arguments([f"the view must be an object of type {kind} [json-pointer:/view/type]"])
    faults = list(_block_faults(given.get("blocks"), most=VIEW_BLOCKS))
    if len(str(given.get("private_metadata") or "")) > PRIVATE_METADATA:
        faults.append(f"must be at most {PRIVATE_METADATA} characters [json-pointer:/view/private_metadata]")
    if len(str(given.get("callback_id") or "")) > 255:
        faults.append("must be at most 255 characters [json-pointer:/view/callback_id]")
    if kind == "modal":
        faults += _modal_faults(given)
    if faults:
        raise _arguments(faults)
    return given


def _modal_faults(given: Json) -> Iterator[str]:
    if not isinstance(given.get("title"), dict):
        yield "missing required field: title [json-pointer:/view]"
    for part in ("title", "submit", "close"):
        if part in given and given[part] is not None:
            yield from _text_faults(given[part], f"/view/{part}", most=24, plain=True)
    blocks = given.get("blocks") or []
    if not given.get("submit") and any(isinstance(b, dict) and b.get("type") == "input" for b in blocks):
        yield "missing required field: submit (there are input blocks) [json-pointer:/view]"


def check_blocks(blocks: Any, *, most: int) -> None:
    """Raises Refused invalid_blocks, invalid_blocks_format, msg_blocks_too_long."""
    if not isinstance(blocks, list):
        raise Refused("invalid_blocks_format")
    if faults := list(_block_faults(blocks, most=most)):
        raise Refused("invalid_blocks", response_metadata={"messages": [f"[ERROR] {fault}" for fault in faults]})
    if sum(len(str(block.get("text"))) for block in blocks if block["type"] == "markdown") > MARKDOWN:
        raise Refused("msg_blocks_too_long")


def _block_faults(blocks: Any, *, most: int) -> Iterator[str]:
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
        yield from _text_faults(block.get("text"), f"{where}/text", most=150, plain=True)
    elif kind == "markdown" and not isinstance(block.get("text"), str):
        yield f"missing required field: text [json-pointer:{where}]"
    elif kind in MOST_ELEMENTS:
        yield from _elements(block, where)
    elif kind == "input":
        yield from _text_faults(block.get("label"), f"{where}/label", most=2_000, plain=True)
        yield from _element(block.get("element"), f"{where}/element")
    elif kind == "table":
        yield from _table(block, where)


def _section(block: Json, where: str) -> Iterator[str]:
    text, fields = block.get("text"), block.get("fields")
    if text is None and not fields:
        yield f"missing required field: text or fields [json-pointer:{where}]"
    if text is not None:
        yield from _text_faults(text, f"{where}/text", most=3_000)
    if fields and len(fields) > 10:
        yield f"no more than 10 items allowed [json-pointer:{where}/fields]"
    for at, each in enumerate(fields or []):
        yield from _text_faults(each, f"{where}/fields/{at}", most=2_000)
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
            yield from _text_faults(each, f"{where}/elements/{at}", most=3_000)
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
        yield from _text_faults(element.get("text"), f"{where}/text", most=75, plain=True)
    if element["type"] == "feedback_buttons":
        for side in ("positive_button", "negative_button"):
            button = element.get(side)
            yield from _text_faults((button or {}).get("text"), f"{where}/{side}/text", most=75, plain=True)
            if len(str((button or {}).get("value") or "")) > 2_000:
                yield f"must be at most 2000 characters [json-pointer:{where}/{side}/value]"
    if element["type"] in OPTION_LISTS:
        yield from _options(element, where)


def _options(element: Json, where: str) -> Iterator[str]:
    options, most = element.get("options"), MOST_OPTIONS.get(element["type"], 100)
    if not options and not element.get("option_groups"):
        yield f"missing required field: options [json-pointer:{where}]"
    if options and len(options) > most:
        yield f"no more than {most} items allowed [json-pointer:{where}/options]"
    for at, option in enumerate(options or []):
        yield from _text_faults(option.get("text"), f"{where}/options/{at}/text", most=75)
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


def _text_faults(text: Any, where: str, *, most: int, plain: bool = False) -> Iterator[str]:
    kinds = ("plain_text",) if plain else ("plain_text", "mrkdwn")
    if not isinstance(text, dict) or text.get("type") not in kinds or not isinstance(text.get("text"), str):
        yield f"must be a text object of type {' or '.join(kinds)} [json-pointer:{where}]"
    elif not text["text"]:
        yield f"must be more than 0 characters [json-pointer:{where}/text]"
    elif len(text["text"]) > most:
        yield f"must be less than {most + 1} characters [json-pointer:{where}/text]"


def _arguments(faults: list[str]) -> Refused:
    return Refused("invalid_arguments", response_metadata={"messages": [f"[ERROR] {fault}" for fault in faults]})
