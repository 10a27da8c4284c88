"""A workspace that is stopped, or killed, goes on where it was."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bot.workspace import seed, server
from bot.workspace.saving import load, save
from bot.workspace.world import World
from storage.errors import ConfigurationError


def new_world() -> World:
    return World(app=seed.the_app(), now=time.time)


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    world = new_world()
    dm = world.dm("U0MIA", seed.BOT)
    root = world.post(dm.id, "U0MIA", {"text": "héllo"})
    world.post(dm.id, seed.BOT, {"text": "hi", "metadata": {"a": 1}}, thread_ts=root["ts"], streaming=True)
    world.react("U0MIA", dm.id, root["ts"], "+1", on=True)
    world.whisper("U0MIA", "C0OPS", {"text": "psst"})
    world.files["F1"] = {"id": "F1", "content": "eA=="}

    save(world, tmp_path / "state.json")
    again = new_world()
    load(again, tmp_path / "state.json")

    assert again.dm("U0MIA", seed.BOT) == dm and again.notes == world.notes and again.files == world.files
    read, reply = again.thread(dm.id, root["ts"])
    assert read == root and reply["metadata"] == {"a": 1} and "streaming" not in reply
    assert float(again.next_ts()) > float(reply["ts"])
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 99}', '{"version": 1, "direct": 3}', "\x00"])
def test_a_foreign_file_is_left_alone_with_a_clear_word(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)

    with pytest.raises(ConfigurationError, match="Next: move it away"):
        load(new_world(), path)

    assert path.read_text() == content


def test_no_file_is_a_new_workspace(tmp_path: Path) -> None:
    world = new_world()
    load(world, tmp_path / "none.json")

    assert world.messages["C0SUPPORT"] == {}


def test_a_served_workspace_survives_its_stop_and_ends_quietly(tmp_path: Path) -> None:
    path, port = tmp_path / "state.json", free_port()
    for number, stop in enumerate((signal.SIGINT, signal.SIGTERM)):
        process = serve(port, path)
        messages = call(port, "boot?user=U0MIA")["messages"]["C0SUPPORT"]
        call(port, "say", {"user": "U0MIA", "channel": "C0SUPPORT", "text": f"visit {number}"})
        process.send_signal(stop)
        out, err = process.communicate(timeout=10)

        assert len(messages) == number and (out, err) == ("", "")

    assert "visit 1" in path.read_text(encoding="utf-8")


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}.*Next:"):
            server.serve("127.0.0.1", port, save_to=None)


def serve(port: int, path: Path) -> subprocess.Popen[str]:
    code = "import sys, pathlib; from bot.workspace.server import serve; serve('127.0.0.1', int(sys.argv[1]), save_to=pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(port), str(path)], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            call(port, "boot?user=U0MIA")
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"not up: {process.communicate()}")


def call(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}/ui/api/{path}", data=data), timeout=5
    ) as reply:
        return json.load(reply)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
