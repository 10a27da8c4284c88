"""A modal that opens at once and is filled when what it shows has been read: a trigger lives for three seconds."""

from collections.abc import Callable
from typing import Any

import structlog
from slack_sdk import WebClient

from bot.answer_view import section
from bot.safe_text import escape
from bot.slack import SLACK_ERRORS, persist, trouble_of
from storage.errors import EvenkeelError

log = structlog.get_logger()
View = dict[str, Any]
PATIENCE_S = 5.0


def open_then_fill(client: WebClient, trigger_id: str, title: str, build: Callable[[], View]) -> bool:
    """Open a small view, then put what `build` gives in its place; False when Slack refused one of the two.

    A deliberate error of `build` is shown in the view.
    """
    try:
        opened = client.views_open(trigger_id=trigger_id, view=modal(title, section("_One moment …_")))
        try:
            view = build()
        except EvenkeelError as error:
            view = modal(title, section(escape(str(error))))
        persist(lambda: client.views_update(view_id=opened["view"]["id"], view=view), for_s=PATIENCE_S)
    except SLACK_ERRORS as error:
        log.info("modal_failed", code=trouble_of(error).code)
        return False
    return True


def modal(title: str, *blocks: dict[str, Any], close: str = "Close", **more: Any) -> View:
    return {"type": "modal", "title": plain(title), "close": plain(close), "blocks": list(blocks), **more}


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}
