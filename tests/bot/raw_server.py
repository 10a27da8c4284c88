"""A model server of bare sockets: a test says which bytes come, when, and when the line is dropped."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.bot.model_server import BASE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
Say = Callable[["Line"], None]


@dataclass
class Line:
    """One request and the way back."""

    socket: socket.socket
    body: dict[str, Any]
    over: threading.Event

    @property
    def model(self) -> str:
        return str(self.body.get("model"))

    def send(self, *parts: bytes | str) -> None:
        for part in parts:
            self.socket.sendall(part if isinstance(part, bytes) else part.encode())

    def drip(self, data: bytes, every_s: float) -> None:
        """One byte after the other, until they are out or the client has gone."""
        with suppress(OSError):
            for n in range(len(data)):
                self.send(data[n : n + 1])
                if self.over.wait(every_s):
                    return

    def hang(self) -> None:
        self.over.wait(30)

    def answers(self, text: str, finish: str | None = "stop", **more: Any) -> None:
        """A whole answer as our engine gives it; `more` changes its last frame."""
        self.send(HEAD, chunk(self.model, {"content": text}), last(self.model, finish, **more), "data: [DONE]\n\n")


def chunk(model: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice], **more}
    return f"data: {json.dumps(frame)}\n\n"


def last(model: str, finish: str | None = "stop", **more: Any) -> str:
    proof = {"base_digest": BASE, "adapter_digest": None, "template_digest": "t" * 64, "prompt_digest": "p" * 64}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return chunk(model, {}, finish, **{"evenkeel": proof, "usage": usage, **more})


def plain(status: str, body: str, *headers: str) -> bytes:
    """A whole HTTP reply that is no stream."""
    raw = body.encode()
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(raw)}", "Connection: close", *headers]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + raw


@dataclass
class RawServer:
    """`says` plays tuned, `base_says` base. `mode` and `base_mode` are what the shared fixtures reset."""

    url: str = ""
    says: Say = lambda line: line.answers("Fine.")
    base_says: Say = lambda line: line.answers("SECRET BASE ANSWER")
    mode: str = "ok"
    base_mode: str = "ok"
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def as_new(self) -> None:
        self.__dict__.update(RawServer(url=self.url, over=self.over).__dict__)

    def serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(30)
            line = Line(connection, _request(connection), self.over)
            self.asked.append(line.model)
            (self.says if line.model == "tuned" else self.base_says)(line)


def _request(connection: socket.socket) -> dict[str, Any]:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65_536) or _gone()
    head, _, body = raw.partition(b"\r\n\r\n")
    length = next(int(row[15:]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65_536) or _gone()
    found: dict[str, Any] = json.loads(body)
    return found


def _gone() -> bytes:
    raise ConnectionError


@contextmanager
def raw_server(tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    server = RawServer()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}/v1"

        def accept() -> None:
            while not server.over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                threads.append(threading.Thread(target=handle, args=(connection,), daemon=True))
                threads[-1].start()

        def handle(connection: socket.socket) -> None:
            with suppress(OSError):
                connection.settimeout(5)
                server.serve(tls.wrap_socket(connection, server_side=True) if tls else connection)
            connection.close()

        threads: list[threading.Thread] = [threading.Thread(target=accept, daemon=True)]
        threads[0].start()
        try:
            yield server
        finally:
            server.over.set()
            time.sleep(0.01)
            for thread in list(threads):
                thread.join(timeout=5)
