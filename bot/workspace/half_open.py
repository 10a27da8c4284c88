"""A connection that is dead at our end and that the other end still believes in."""

from typing import Any

from starlette.websockets import WebSocket


class HalfOpen:
    """One WebSocket from which nothing goes out (no frame, no ping or pong, no close) and of which nothing is heard.

    It stands between uvicorn's protocol and its transport, so that the protocol notices nothing either.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._transport: Any = socket.scope["state"]["transport"]
        self._protocol: Any = self._transport.get_protocol()
        self._transport.pause_reading()
        self._protocol.stop_keepalive()
        self._protocol.transport = self

    def write(self, data: bytes) -> None:
        """Into the void."""

    def close(self) -> None:
        """The other end hears nothing of it."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nothing is read anyway."""

    def resume_reading(self) -> None:
        """Not before `heal`."""

    def heal(self) -> None:
        """The line works again; what was lost stays lost."""
        self._protocol.transport = self._transport
        if self._protocol.close_sent or self._transport.is_closing():
            self._transport.abort()
            return
        self._transport.resume_reading()
        self._protocol.start_keepalive()
