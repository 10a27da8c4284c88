"""A word to one person, seen by nobody else."""

from typing import Any

import structlog
from slack_bolt import Respond
from slack_sdk import WebClient

from bot.answer_view import section
from bot.slack import SLACK_ERRORS, trouble_of

log = structlog.get_logger()


def private(
    client: WebClient,
    channel: str,
    user: str,
    text: str,
    *,
    respond: Respond | None = None,
    thread_ts: str | None = None,
    blocks: list[dict[str, Any]] | None = None,
) -> None:
    """An ephemeral message; where the bot is no member, through the command's own address. Failure is logged only."""
    try:
        shown = blocks or [section(text)]
        client.chat_postEphemeral(channel=channel, user=user, text=text, blocks=shown, thread_ts=thread_ts)
        return
    except SLACK_ERRORS as error:
        log.info("ephemeral_failed", code=trouble_of(error).code)
    if respond is not None and is_slacks(respond.response_url, client.base_url):
        try:
            respond(text=text, response_type="ephemeral")
        except SLACK_ERRORS as error:
            log.warning("respond_failed", code=trouble_of(error).code)


def is_slacks(address: str | None, api_url: str) -> bool:
    """Whether this is where Slack takes responses: its own host, or beside a Web API that is not Slack's."""
    if address is None:
        return False
    origin = "/".join(api_url.split("/", 3)[:3]) + "/"
    return address.startswith(("https://hooks.slack.com/", "https://hooks.slack-gov.com/", origin))
