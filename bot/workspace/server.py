"""The workspace as one web application on loopback, and the command that serves it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from uvicorn.protocols.http.h11_impl import H11Protocol

from bot.workspace import files, seed
from bot.workspace.api import Api
from bot.workspace.courier import Background, Courier, Events
from bot.workspace.http_events import HttpEvents
from bot.workspace.interactions import Interactions
from bot.workspace.records import Change, Json
from bot.workspace.refused import Refused
from bot.workspace.saving import load, save
from bot.workspace.sessions import Sessions
from bot.workspace.socket_mode import SocketMode
from bot.workspace.ui import Ui
from bot.workspace.views import Views
from bot.workspace.web_api import WebApi
from bot.workspace.world import World
from storage.errors import ConfigurationError

STATIC = Path(__file__).with_name("static")
SAVE_EVERY_S = 0.5


class DroppingProtocol(H11Protocol):
    """HTTP whose requests can cut the connection that they came on: `request.state.transport`."""

    def connection_made(self, transport: Any) -> None:
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


@dataclass(kw_only=True)
class Workspace:
    """Everything behind one address. `url` ends with a slash."""

    url: str
    ack_timeout_s: float = 3.0
    event_url: str | None = None
    save_to: Path | None = None
    manifest: Json | None = None
    background: Background = field(default_factory=Background)
    changed: bool = False

    def __post_init__(self) -> None:
        self.world = World(app=seed.the_app(self.manifest), now=time.time)
        if self.save_to:
            load(self.world, self.save_to)
        self.views, self.sessions = Views(world=self.world), Sessions(world=self.world)
        self.sockets = SocketMode(self.world.app.id, ack_timeout_s=self.ack_timeout_s)
        self.world.listeners += [self.hear, self.ui.hear, self.sessions.hear]

    @cached_property
    def courier(self) -> Courier:
        if self.event_url is None:
            return self.sockets
        return HttpEvents(self.event_url, seed.SIGNING_SECRET, ack_timeout_s=self.ack_timeout_s)

    @cached_property
    def interactions(self) -> Interactions:
        return Interactions(
            world=self.world, views=self.views, sessions=self.sessions,
            courier=self.courier, events=self.events, url=self.url,
        )  # fmt: skip

    @cached_property
    def events(self) -> Events:
        return Events(world=self.world, courier=self.courier, background=self.background)

    @cached_property
    def ui(self) -> Ui:
        return Ui(world=self.world, interactions=self.interactions)

    @cached_property
    def web_api(self) -> WebApi:
        api = Api(world=self.world, views=self.views, sessions=self.sessions, url=self.url, socket_url=self._socket_url)
        return WebApi(api=api)

    def _socket_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}link/?ticket={self.sockets.ticket()}&app_id={self.world.app.id}"

    def hear(self, change: Change) -> None:
        """Tell the app, and remember that there is something to save."""
        self.changed = True
        self.events.hear(change)

    async def save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            self.save()

    def save(self) -> None:
        """Write what changed since the last time."""
        if self.save_to and self.changed:
            self.changed = False
            save(self.world, self.save_to)


def create_app(workspace: Workspace) -> Starlette:
    """The whole of it: /api for the app, /ui for people, / for the page."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        workspace.background.start(workspace.save_now_and_then())
        yield
        await workspace.background.stop()
        workspace.save()

    async def call(request: Request) -> Response:
        return await workspace.web_api.answer(request, request.state.transport.abort)

    async def respond(request: Request) -> Response:
        try:
            workspace.interactions.respond(request.path_params["name"], await request.body())
        except Refused as refused:
            return JSONResponse({"ok": False, "error": refused.code}, 404 if "url" in refused.code else 400)
        return PlainTextResponse("ok")

    async def upload(request: Request) -> Response:
        try:
            files.receive(workspace.web_api.api, request.path_params["id"], await request.body())
        except Refused as refused:
            return PlainTextResponse(refused.code, 400)
        return PlainTextResponse("OK")

    async def file(request: Request) -> Response:
        try:
            content, headers = files.content(workspace.world, request.path_params["id"])
        except Refused as refused:
            return PlainTextResponse(refused.code, 404)
        return Response(content, headers=headers)

    async def permalink(request: Request) -> Response:
        digits = request.path_params["name"].removeprefix("p")
        return RedirectResponse(f"/#/{request.path_params['channel']}/{digits[:-6]}.{digits[-6:]}")

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    routes = [
        Route("/api/{method}", call, methods=["GET", "POST"]),
        Route("/respond/{name}", respond, methods=["POST"]),
        Route("/upload/{id}", upload, methods=["POST"]),
        Route("/files/{id}/{name}", file),
        Route("/archives/{channel}/{name}", permalink),
        WebSocketRoute("/link/", workspace.sockets.serve),
        *workspace.ui.routes(),
        Route("/", page),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return Starlette(routes=routes, middleware=[hosts], lifespan=lifespan)


def listening(host: str, port: int) -> socket.socket:
    """A listener whose connections send at once: asyncio does not see to it on sockets that others made."""
    listener = socket.create_server((host, port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
    return listener


def make_server(app: Starlette, *, ping_every_s: float = 20.0) -> uvicorn.Server:
    """A server that can lose a response and that stops within a second."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=DroppingProtocol,
            ws="websockets-sansio",
            ws_ping_interval=ping_every_s,
            ws_per_message_deflate=False,
            lifespan="on",
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )


def serve(host: str, port: int, *, save_to: Path | None) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ConfigurationError: the port is taken, the saved file is foreign."""
    try:
        listener = listening(host, port)
    except OSError as error:
        raise ConfigurationError(f"port {port} on {host}: {error.strerror}. Next: choose another --port.") from None
    with listener:
        workspace = Workspace(url=f"http://{host}:{listener.getsockname()[1]}/", save_to=save_to)
        with suppress(KeyboardInterrupt):
            make_server(create_app(workspace)).run(sockets=[listener])
