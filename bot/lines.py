"""Lines to model servers on which a deadline holds for everything: connecting, TLS, each byte that is sent or comes back.

httpx2's own timeouts begin anew with every byte, so a server that sends one each ten seconds would hold them for ever.
Here no wait of the socket is longer than what is left. Only the system's name resolution keeps its own limit.
Nothing is sent again, and no redirect is followed: what people wrote goes to the server that was named, and nowhere else.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

import httpcore2
import httpx2
import openai

from storage.servers import Server

LONGEST_SILENCE_S = 60.0
LONGEST_CONNECT_S = 5.0
MOST_BYTES = 64 * 2**20  # of one reply; the longest answer takes about a twentieth


class TooMuch(Exception):
    """The server sent more than MOST_BYTES."""


@dataclass(slots=True)
class _Limit:
    until: float
    bytes_left: int


_limit: ContextVar[_Limit | None] = ContextVar("limit", default=None)


@contextmanager
def within(seconds: float) -> Iterator[openai.Timeout]:
    """Whatever this thread asks of a server inside the block ends in so many seconds; then httpx2's timeouts are raised.

    An inner block never lasts longer than an outer one. The value are the timeouts to ask with: they bound the silence
    between two bytes.
    """
    until = time.monotonic() + left_s(seconds)
    token = _limit.set(_Limit(until=until, bytes_left=MOST_BYTES))
    try:
        yield openai.Timeout(min(seconds, LONGEST_SILENCE_S), connect=min(seconds, LONGEST_CONNECT_S))
    finally:
        _limit.reset(token)


def left_s(most: float) -> float:
    """Seconds that are left in this block, at least 0 and at most `most`."""
    limit = _limit.get()
    return most if limit is None else max(0.0, min(most, limit.until - time.monotonic()))


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """The timeout, cut to what is left. Raises `late` when nothing is."""
    limit = _limit.get()
    if limit is None:
        return timeout
    left = limit.until - time.monotonic()
    if left <= 0:
        raise late("the deadline is over")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore2.NetworkStream):
    """A connection that looks at the deadline before each wait."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        found = self._inner.read(max_bytes, _left(timeout, httpcore2.ReadTimeout))
        if (limit := _limit.get()) is not None:
            limit.bytes_left -= len(found)
            if limit.bytes_left < 0:
                raise TooMuch(f"more than {MOST_BYTES} bytes")
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> "_Stream":
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(timeout, httpcore2.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Network(httpcore2.NetworkBackend):
    """Opens such connections."""

    def __init__(self, inner: httpcore2.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> _Stream:
        left = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options))


def _http() -> httpx2.Client:
    """httpx2's client with its proxies and certificates as usual, over such connections.

    httpx2 has no door for a network of one's own, hence the private names; tests/bot/test_lines.py holds them.
    """
    client = openai.DefaultHttpxClient(follow_redirects=False)
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.HTTPTransport):
            transport._pool._network_backend = _Network(transport._pool._network_backend)
    return client


class Lines:
    """One openai client for each server, all over one pool; any thread may use it.

    The pool is made at once, since reading the machine's certificates takes longer than an answer should wait.
    """

    def __init__(self) -> None:
        self._http = _http()
        self._clients: dict[tuple[str, str], openai.OpenAI] = {}
        self._lock = Lock()

    def to(self, server: Server) -> openai.OpenAI:
        with self._lock:
            known = self._clients.get((server.url, server.key))
            if known is None:
                known = self._clients[server.url, server.key] = openai.OpenAI(
                    base_url=server.url, api_key=server.key or "none", max_retries=0, http_client=self._http
                )
            return known

    def close(self) -> None:
        self._http.close()
