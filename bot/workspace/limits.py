"""How much Slack takes, and the code with which it refuses more.

Blocks are looked at in block_limits. Source: docs.slack.dev, the pages of the methods; `chat.update`'s 4,000 and the
markdown block's 12,000 for a whole message are as measured by others.
"""

from collections.abc import Iterator
from typing import Any

from bot.workspace.block_limits import block_faults, text_faults
from bot.workspace.records import Json
from bot.workspace.refused import Refused

TEXT, UPDATED_TEXT, MARKDOWN = 40_000, 4_000, 12_000
MESSAGE_BLOCKS, VIEW_BLOCKS = 50, 100
PRIVATE_METADATA, METADATA = 3_000, 8_000


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
    faults = list(block_faults(given.get("blocks"), most=VIEW_BLOCKS, in_view=True))
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
            yield from text_faults(given[part], f"/view/{part}", most=24, plain=True)
    blocks = given.get("blocks") or []
    if not given.get("submit") and any(isinstance(b, dict) and b.get("type") == "input" for b in blocks):
        yield "missing required field: submit (there are input blocks) [json-pointer:/view]"


def check_blocks(blocks: Any, *, most: int) -> None:
    """Raises Refused invalid_blocks, invalid_blocks_format, msg_blocks_too_long."""
    if not isinstance(blocks, list):
        raise Refused("invalid_blocks_format")
    if faults := list(block_faults(blocks, most=most)):
        raise Refused("invalid_blocks", response_metadata={"messages": [f"[ERROR] {fault}" for fault in faults]})
    if sum(len(str(block.get("text"))) for block in blocks if block["type"] == "markdown") > MARKDOWN:
        raise Refused("msg_blocks_too_long")


def _arguments(faults: list[str]) -> Refused:
    return Refused("invalid_arguments", response_metadata={"messages": [f"[ERROR] {fault}" for fault in faults]})
