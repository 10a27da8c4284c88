"""Socket Mode: the app comes to us and waits; each envelope goes to one of its connections.

Promise: an event that is not acked within `ack_timeout_s` is delivered again, three times at most; while nobody is
connected it waits. A connection that fell silent takes first deliveries, which are lost, until another opens. Source: docs.slack.dev/apis/events-api/using-socket-mode.
"""

import asyncio
import json
import secrets
import uuid

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from bot.workspace.courier import RETRIES, Kind
from bot.workspace.half_open import HalfOpen
from bot.workspace.records import Json

MOST_CONNECTIONS = 10
LIFETIME_S = 18_060


class SocketMode:
    """The open connections of one app, and the envelopes that wait for an ack."""

    def __init__(self, app_id: str, *, ack_timeout_s: float) -> None:
        self.deaf = 0
        self._app_id, self._ack_timeout_s = app_id, ack_timeout_s
        self._tickets: set[str] = set()
        self._connections: list[WebSocket] = []  # the next to get an envelope first
        self._silent: dict[WebSocket, HalfOpen] = {}
        self._somebody, self._speaking = asyncio.Event(), asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Json]] = {}

    def ticket(self) -> str:
        """What opens one connection, once."""
        ticket = secrets.token_hex(16)
        self._tickets.add(ticket)
        return ticket

    @property
    def connected(self) -> int:
        """How many are open and not silent."""
        return sum(socket not in self._silent for socket in self._connections)

    async def serve(self, socket: WebSocket) -> None:
        """One connection, from hello until it closes."""
        ticket = socket.query_params.get("ticket", "")
        if ticket not in self._tickets:
            await socket.close()
            return
        self._tickets.discard(ticket)
        await socket.accept()
        if len(self._connections) >= MOST_CONNECTIONS:
            await self._send_off(socket, "too_many_websockets")
            return
        self._connections = [*(known for known in self._connections if known not in self._silent), socket]
        try:
            await socket.send_text(json.dumps(self._hello()))
            self._count()
            while True:
                self._hear(await socket.receive_text())
        except WebSocketDisconnect:
            pass
        finally:
            self._forget(socket)

    def _hello(self) -> Json:
        debug = {"host": "local", "build_number": 1, "approximate_connection_time": LIFETIME_S}
        info = {"app_id": self._app_id}
        return {"type": "hello", "num_connections": self.connected, "debug_info": debug, "connection_info": info}

    def _forget(self, socket: WebSocket) -> None:
        if socket in self._connections:
            self._connections.remove(socket)
        self._count()

    def _count(self) -> None:
        for event, there in ((self._somebody, bool(self._connections)), (self._speaking, self.connected > 0)):
            (event.set if there else event.clear)()

    def silence(self, on: bool) -> None:
        """The open connections go dead at our end, unnoticed by the app; or they work again."""
        if on:
            self._silent |= {socket: HalfOpen(socket) for socket in self._connections if socket not in self._silent}
        else:
            for socket, line in self._silent.items():
                line.heal()
                if socket not in self._connections and socket.client_state is WebSocketState.CONNECTED:
                    self._connections.append(socket)
            self._silent = {}
        self._count()

    def _hear(self, text: str) -> None:
        try:
            ack = json.loads(text)
        except ValueError:
            return
        waiting = self._waiting.get(ack.get("envelope_id", "")) if isinstance(ack, dict) else None
        if waiting is None or waiting.done():
            return
        if self.deaf > 0:
            self.deaf -= 1
            return
        payload = ack.get("payload")
        waiting.set_result(payload if isinstance(payload, dict) else {})

    async def send(self, kind: Kind, payload: Json, *, again: bool) -> Json | None:
        """See Courier. Only events wait for somebody to connect, and only they come again."""
        envelope: Json = {"envelope_id": str(uuid.uuid4()), "type": kind, "payload": payload}
        envelope["accepts_response_payload"] = kind != "events_api"
        for attempt in range(1 + RETRIES if again else 1):
            if kind == "events_api":
                envelope |= {"retry_attempt": attempt, "retry_reason": "timeout" if attempt else ""}
            ack = await self._deliver(envelope, patient=again, first=attempt == 0)
            if ack is not None:
                return ack
        return None

    async def _deliver(self, envelope: Json, *, patient: bool, first: bool) -> Json | None:
        waiting = self._waiting[envelope["envelope_id"]] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(self._hand_over(envelope, first=first), None if patient else self._ack_timeout_s)
            return await asyncio.wait_for(waiting, self._ack_timeout_s)
        except TimeoutError:
            return None
        finally:
            del self._waiting[envelope["envelope_id"]]

    async def _hand_over(self, envelope: Json, *, first: bool) -> None:
        """To the connection that has waited longest; when it turns out to be gone, to the next."""
        while True:
            await (self._somebody if first else self._speaking).wait()
            socket = next(each for each in self._connections if first or each not in self._silent)
            self._connections.remove(socket)
            self._connections.append(socket)
            try:
                await socket.send_text(json.dumps(envelope))
                return
            except (WebSocketDisconnect, RuntimeError):
                self._forget(socket)

    async def disconnect(self, reason: str) -> None:
        """Send every connection away, as Slack does when it refreshes its own."""
        leaving, self._connections = self._connections, []
        self._count()
        for socket in leaving:
            await self._send_off(socket, reason)

    async def _send_off(self, socket: WebSocket, reason: str) -> None:
        frame = {"type": "disconnect", "reason": reason, "debug_info": {"host": "local"}}
        try:
            await socket.send_text(json.dumps(frame))
            await socket.close()
        except (WebSocketDisconnect, RuntimeError):
            return
