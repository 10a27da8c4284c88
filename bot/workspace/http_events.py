"""Events over HTTP: signed POSTs to the app's request URL.

Promise: what is not answered with 2xx within `ack_timeout_s` comes again at once, after 20 and after 100 times that
(a minute and five minutes of a real workspace), unless the app said X-Slack-No-Retry.
"""

import asyncio
import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request

from bot.workspace.courier import RETRIES, Kind
from bot.workspace.records import Json

PAUSES = (0, 20, 100)  # in units of the ack's timeout


class HttpEvents:
    """The way to one request URL."""

    def __init__(self, url: str, signing_secret: str, *, ack_timeout_s: float) -> None:
        self.deaf = 0
        self._url, self._secret, self._ack_timeout_s = url, signing_secret, ack_timeout_s

    async def send(self, kind: Kind, payload: Json, *, again: bool) -> Json | None:
        """See Courier."""
        kind_of_body, body = _body(kind, payload)
        headers = {"Content-Type": kind_of_body, "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)"}
        for attempt in range(1 + RETRIES if again else 1):
            answer, reason, stop = await asyncio.to_thread(self._post, body, {**headers, **self._seal(body)})
            if answer is not None and self.deaf > 0:
                self.deaf, answer, reason = self.deaf - 1, None, "http_timeout"
            if answer is not None or stop or attempt == RETRIES:
                return answer
            if again:
                await asyncio.sleep(PAUSES[attempt] * self._ack_timeout_s)
            headers |= {"X-Slack-Retry-Num": str(attempt + 1), "X-Slack-Retry-Reason": reason}
        return None

    def _seal(self, body: bytes) -> dict[str, str]:
        stamp = str(int(time.time()))
        digest = hmac.new(self._secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[Json | None, str, bool]:
        """(answer or None, Slack's word for what went wrong, whether the app wants no retry)."""
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self._ack_timeout_s) as response:
                return _answer(response.read(), response.headers.get("content-type", "")), "", False
        except urllib.error.HTTPError as error:
            with error:
                return None, "http_error", error.headers.get("X-Slack-No-Retry") == "1"
        except TimeoutError:
            return None, "http_timeout", False
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            late = isinstance(getattr(error, "reason", None), TimeoutError)
            return None, "http_timeout" if late else "connection_failed", False


def _body(kind: Kind, payload: Json) -> tuple[str, bytes]:
    if kind == "events_api":
        return "application/json", json.dumps(payload).encode()
    fields = payload if kind == "slash_commands" else {"payload": json.dumps(payload)}
    return "application/x-www-form-urlencoded", urllib.parse.urlencode(fields).encode()


def _answer(body: bytes, content_type: str) -> Json:
    text = body.decode("utf-8", "replace")
    if content_type.startswith("application/json"):
        try:
            found = json.loads(text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
    return {"text": text} if text.strip() else {}
