"""A workspace for tests: a real server in a thread, and a driver that plays everybody but the bot."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bot.workspace.driver import PATIENCE_S, Driver
from bot.workspace.records import Json
from bot.workspace.server import Workspace, create_app, listening, make_server

__all__ = ["Driver", "running_workspace"]
PING_EVERY_S = 0.2  # a client of slack_sdk that closes waits for the next frame, for up to three seconds


@contextmanager
def running_workspace(
    port: int = 0,
    event_url: str | None = None,
    ack_timeout_s: float = 3.0,
    manifest: Json | None = None,
    tiers: bool = False,
) -> Iterator[Driver]:
    """A fresh workspace on loopback inside the block. With `event_url`, the app is called there instead of by socket.

    `tiers`: every method is held to Slack's rate limits, not only the start of streams.
    """
    with listening("127.0.0.1", port) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        workspace = Workspace(url=url, event_url=event_url, ack_timeout_s=ack_timeout_s, manifest=manifest)
        workspace.web_api.tiers.enforced = tiers
        server = make_server(create_app(workspace), ping_every_s=PING_EVERY_S)
        loops: list[asyncio.AbstractEventLoop] = []

        async def serving() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serving()), name="workspace", daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        driver = Driver(workspace, loops[0])
        try:
            yield driver
        finally:
            driver.silence(False)
            server.should_exit = True
            thread.join(PATIENCE_S)
