"""The door of the Web API: tokens, arguments, faults, the journal; then the method.

Promise: every call is answered as Slack answers it, with `ok` and the real error code, and stands in the journal.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from bot.workspace import files, methods_chat, methods_rooms, methods_streams, methods_views, seed
from bot.workspace.api import Api, Method
from bot.workspace.faults import Fault, Faults
from bot.workspace.records import Json
from bot.workspace.refused import Refused
from bot.workspace.tiers import Tiers

METHODS: dict[str, Method] = {
    **methods_rooms.METHODS,
    **methods_chat.METHODS,
    **methods_streams.METHODS,
    **methods_views.METHODS,
    **files.METHODS,
}
STRUCTURED = {"blocks", "attachments", "metadata", "view", "chunks", "files", "prompts", "loading_messages"}
NEEDS_APP_TOKEN = {"apps.connections.open"}
NEEDS_NO_TOKEN = {"api.test"}
KEPT_CALLS = 5_000


@dataclass(slots=True, kw_only=True)
class WebApi:
    api: Api
    tiers: Tiers = field(default_factory=Tiers)
    faults: Faults = field(default_factory=Faults)
    journal: deque[Json] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))

    async def answer(self, request: Request, drop: Callable[[], None]) -> Response:
        """One call. `drop` cuts the connection under it."""
        method = request.path_params["method"]
        entry: Json = {"method": method, "args": {}, "ok": False, "error": None, "at": self.api.world.now()}
        self.journal.append(entry)
        fault = self.faults.next(method)
        try:
            entry["args"], token = await _arguments(request)
        except Refused as refused:
            return JSONResponse(_no(entry, refused))
        if fault and (early := _before(fault)):
            entry["error"] = fault.code if fault.kind == "error" else fault.kind
            return early
        channel = str(entry["args"].get("channel", ""))
        if wait_s := self.tiers.wait_s(method, channel, self.api.world.now()):
            entry["error"] = "ratelimited"
            return _too_fast(wait_s)
        if fault and fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        reply = self._call(method, token, entry)
        if fault and fault.kind == "lost_response":
            entry["ok"], entry["error"] = False, "lost_response"
            drop()
        return Escaped(reply)

    def _call(self, method: str, token: str, entry: Json) -> Json:
        try:
            if method not in METHODS:
                raise Refused("unknown_method", req_method=method)
            _check_token(method, token)
            reply = {"ok": True, **METHODS[method](self.api, _structured(entry["args"]))}
        except Refused as refused:
            return _no(entry, refused)
        entry["ok"] = True
        return reply


class Escaped(JSONResponse):
    """JSON in ASCII, as Slack sends it: half a character that somebody wrote travels as an escape."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def _no(entry: Json, refused: Refused) -> Json:
    entry["error"] = refused.code
    return {"ok": False, "error": refused.code, **refused.details}


def _before(fault: Fault) -> Response | None:
    """The answer to a call that does not act."""
    if fault.kind == "ratelimited":
        return _too_fast(fault.retry_after)
    if fault.kind == "http_500":
        return PlainTextResponse("Internal Server Error", 500)
    return JSONResponse({"ok": False, "error": fault.code}) if fault.kind == "error" else None


def _too_fast(wait_s: float) -> Response:
    return JSONResponse({"ok": False, "error": "ratelimited"}, 429, headers={"Retry-After": f"{wait_s:g}"})


def _check_token(method: str, token: str) -> None:
    if method in NEEDS_NO_TOKEN:
        return
    if not token:
        raise Refused("not_authed")
    if token not in (seed.BOT_TOKEN, seed.APP_TOKEN):
        raise Refused("invalid_auth")
    if (token == seed.APP_TOKEN) != (method in NEEDS_APP_TOKEN):
        raise Refused("not_allowed_token_type")


async def _arguments(request: Request) -> tuple[Json, str]:
    """The arguments of address and body, and the token of header or argument. Raises Refused invalid_json …"""
    given: Json = dict(request.query_params)
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = json.loads(await request.body() or b"{}")
        except ValueError:
            raise Refused("invalid_json") from None
        if not isinstance(body, dict):
            raise Refused("json_not_object")
        given |= body
    else:
        form: FormData = await request.form()
        given |= {name: value for name, value in form.items() if isinstance(value, str)}
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    token = str(given.pop("token", "") or "")
    return {name: value for name, value in given.items() if value is not None}, bearer or token


def _structured(given: Json) -> Json:
    """The same, with JSON in text read. Raises Refused invalid_blocks_format, invalid_arguments."""
    read = dict(given)
    for name in STRUCTURED & given.keys():
        if not isinstance(given[name], str):
            continue
        try:
            read[name] = json.loads(given[name]) if given[name] else None
        except ValueError:
            raise Refused("invalid_blocks_format" if name == "blocks" else "invalid_arguments") from None
    return {name: value for name, value in read.items() if value is not None}
