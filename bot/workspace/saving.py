"""The workspace in a file, so that a demo goes on where it stopped."""

import json
import os
from pathlib import Path

from bot.workspace.records import Channel, Json
from bot.workspace.world import World
from storage.errors import ConfigurationError

VERSION = 1


def save(world: World, path: Path) -> None:
    """The file holds the old or the new state, whole, whatever happens meanwhile."""
    places = [{"id": c.id, "members": c.members} for c in world.channels.values() if c.kind == "im"]
    held = {
        "version": VERSION,
        "direct": places,
        "messages": world.messages,
        "notes": world.notes,
        "files": world.files,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump({**held, "last_ts": world.last_ts}, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load(world: World, path: Path) -> None:
    """What was saved, into a new world; nothing when there is no file. Raises ConfigurationError on another file."""
    if not path.exists():
        return
    try:
        held: Json = json.loads(path.read_text(encoding="utf-8"))
        if held["version"] != VERSION:
            raise ValueError(f"version {held['version']}")
        places = [Channel(id=d["id"], name="", kind="im", members=tuple(d["members"])) for d in held["direct"]]
        messages, notes, files = ({**held[name]} for name in ("messages", "notes", "files"))
        last_ts = float(held["last_ts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} holds no saved workspace ({error}). Next: move it away, and the workspace starts as new."
        ) from None
    world.channels |= {place.id: place for place in places}
    world.messages |= messages
    world.notes, world.files, world.last_ts = notes, files, last_ts
    world.index()
    for said in world.messages.values():
        for message in said.values():
            message.pop("streaming", None)  # whoever was writing is gone
