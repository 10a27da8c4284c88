"""The Web API client, who we are, and what its failures mean.

Promise: a call that is not idempotent is never repeated here; one that is idempotent is repeated with backoff and
Retry-After honoured. Knows the Web API's transport; knows no question and no run.
"""

import http.client
import math
import re
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import stamina
import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from stamina.instrumentation import RetryDetails

from bot.pace import HeldBack, Pace
from storage.errors import ConfigurationError

log = structlog.get_logger()
T = TypeVar("T")
TRANSPORT_ERRORS = (OSError, http.client.HTTPException, urllib.error.URLError)
SLACK_ERRORS = (SlackApiError, *TRANSPORT_ERRORS)
SERVER_SIDE = {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"}
TIMEOUT_S = 10
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """The bot itself, as auth.test names it."""

    team: str
    user: str
    bot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What a failed call means: `limited` (wait), `unsure` (it may have acted), `refused` (it did not, and will not)."""

    kind: Literal["limited", "unsure", "refused"]
    code: str
    retry_after_s: float = 0.0


class PacedClient(WebClient):
    """A client that sends every request once (the SDK's own handlers re-post when a response is lost) and keeps to the pace."""

    def __init__(self, token: str, api_url: str) -> None:
        super().__init__(token=token, base_url=api_url, timeout=TIMEOUT_S, retry_handlers=[])
        self.pace = Pace()

    def api_call(self, api_method: str, **given: Any) -> Any:
        """Raises HeldBack instead of a call that Slack has just asked not to make."""
        key = _key(api_method, given)
        if left := self.pace.pause_left(key):
            raise HeldBack(api_method, left)
        self.pace.spend(api_method)
        try:
            return super().api_call(api_method, **given)
        except SlackApiError as error:
            trouble = trouble_of(error)
            if trouble.kind == "limited":
                self.pace.pause(key, trouble.retry_after_s)
            raise


def _key(method: str, given: dict[str, Any]) -> str:
    """New messages are limited by channel, all else by method."""
    if method != "chat.postMessage":
        return method
    fields = given.get("json") or given.get("params") or given.get("data") or {}
    return f"{method} {fields.get('channel', '')}"


def make_client(token: str, api_url: str) -> PacedClient:
    return PacedClient(token, api_url)


def who_am_i(client: WebClient) -> Me:
    """Raises ConfigurationError when Slack cannot be reached or refuses the bot token."""
    try:
        reply = client.auth_test()
    except SLACK_ERRORS as error:
        trouble = trouble_of(error)
        step = "check SLACK_API_URL and the network"
        if trouble.kind == "refused":
            step = "copy the Bot User OAuth Token of your app (OAuth & Permissions) into SLACK_BOT_TOKEN"
        raise ConfigurationError(
            f"Slack at {client.base_url} did not accept auth.test: {trouble.code}. Next: {step}."
        ) from None
    return Me(team=str(reply["team_id"]), user=str(reply["user_id"]), bot_id=str(reply.get("bot_id") or ""))


def trouble_of(error: BaseException) -> Trouble:
    """Total: every exception of a Web API call has a meaning."""
    if not isinstance(error, SlackApiError):
        return Trouble(kind="unsure", code=type(error).__name__)
    status, code = _status(error), _code(error)
    if status == 429 or code in ("ratelimited", "rate_limited"):
        return Trouble(kind="limited", code="ratelimited", retry_after_s=_retry_after(error))
    if status >= 500 or code in SERVER_SIDE or not code:
        return Trouble(kind="unsure", code=code or f"http_{status}")
    return Trouble(kind="refused", code=code)


def persist(call: Callable[[], T], *, for_s: float = LONGEST_WAIT_S) -> T:
    """The result of an idempotent call, repeated for up to `for_s` seconds until Slack takes it.

    Raises the last error when it was refused, or when the time is up.
    """
    result: list[T] = []
    for attempt in stamina.retry_context(
        on=_pause, attempts=None, timeout=for_s, wait_initial=0.3, wait_max=10, wait_jitter=0.2
    ):
        with attempt:
            result.append(call())
    return result[0]


def told_by_code(details: RetryDetails) -> None:
    """A line for each repeated call, with the code alone: an error's own words may hold what somebody wrote."""
    code = trouble_of(details.caused_by).code
    log.info("slack_again", code=code, number=details.retry_num, wait_s=round(details.wait_for, 2))


def _pause(error: Exception) -> bool | float:
    if not isinstance(error, SLACK_ERRORS):
        return False
    trouble = trouble_of(error)
    return trouble.retry_after_s if trouble.kind == "limited" else trouble.kind == "unsure"


def _status(error: SlackApiError) -> int:
    status = getattr(error.response, "status_code", 0)
    return status if isinstance(status, int) else 0


def _code(error: SlackApiError) -> str:
    data: Any = getattr(error.response, "data", error.response)
    found = data.get("error") if isinstance(data, dict) else None
    return found if isinstance(found, str) and re.fullmatch(r"[a-z0-9_]{1,60}", found) else ""


def _retry_after(error: SlackApiError) -> float:
    """Seconds from the header, between 0.5 and 60; one second when it is missing or no number."""
    if isinstance(error, HeldBack):
        return error.seconds
    headers = {str(k).lower(): v for k, v in dict(getattr(error.response, "headers", {}) or {}).items()}
    try:
        seconds = float(headers.get("retry-after", 1))
    except (TypeError, ValueError):
        return 1.0
    return min(LONGEST_WAIT_S, max(0.5, seconds)) if math.isfinite(seconds) else 1.0
