"""Uploads in three steps (announce, send, complete), and the way back. Files live in memory."""

import base64
import mimetypes
from pathlib import PurePath

from bot.workspace import limits
from bot.workspace.api import Api, Method, missing, need
from bot.workspace.records import Json
from bot.workspace.refused import Refused
from bot.workspace.world import World, new_id, with_block_ids

LARGEST = 20_000_000
SHOWN_IN_PLACE = {"image/png", "image/jpeg", "image/gif", "image/webp"}  # everything else is downloaded


def announce(api: Api, given: Json) -> Json:
    name, length = PurePath(need(given, "filename")).name, need(given, "length")
    if not length.isdecimal() or not 0 < int(length) <= LARGEST:
        raise Refused("invalid_arguments", response_metadata={"messages": ["[ERROR] length must be 1 to 20000000"]})
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    file: Json = {"id": new_id("F"), "name": name, "title": name, "mimetype": kind, "size": int(length)}
    file["filetype"] = PurePath(name).suffix.lstrip(".") or "binary"
    api.uploads[file["id"]] = file
    return {"file_id": file["id"], "upload_url": f"{api.url}upload/{file['id']}"}


def receive(api: Api, file_id: str, body: bytes) -> None:
    """The bytes of an announced file. Raises Refused file_not_found, bad_length."""
    file = api.uploads.get(file_id)
    if file is None:
        raise Refused("file_not_found")
    if len(body) != file["size"]:
        raise Refused("bad_length")
    file["content"] = base64.b64encode(body).decode()


def complete(api: Api, given: Json) -> Json:
    wanted = given.get("files")
    if not isinstance(wanted, list) or not wanted or not all(isinstance(each, dict) for each in wanted):
        raise missing("files")
    for each in wanted:
        if "content" not in api.uploads.get(str(each.get("id")), {}):
            raise Refused("file_not_found")
    channels = [c for c in [given.get("channel_id"), *str(given.get("channels") or "").split(",")] if c]
    for channel in channels:
        api.world.writable(channel, api.me)
    done = [_finished(api, each) for each in wanted]
    content: Json = {"text": str(given.get("initial_comment") or ""), "files": done, "upload": True}
    if given.get("blocks"):
        limits.check_blocks(given["blocks"], most=limits.MESSAGE_BLOCKS)
        content["blocks"] = with_block_ids(given["blocks"])
    for channel in channels:
        api.world.post(channel, api.me, content, thread_ts=given.get("thread_ts") or None)
    return {"files": done}


def _finished(api: Api, wanted: Json) -> Json:
    file = api.uploads.pop(str(wanted["id"]))
    file["title"] = str(wanted.get("title") or file["name"])
    file["url"] = file["url_private"] = file["permalink"] = f"{api.url}files/{file['id']}/{file['name']}"
    file["user"], file["created"] = api.me, int(api.world.now())
    api.world.files[file["id"]] = file
    return described(file)


def described(file: Json) -> Json:
    """The file object, without its bytes."""
    return {name: value for name, value in file.items() if name != "content"}


def content(world: World, file_id: str) -> tuple[bytes, dict[str, str]]:
    """The bytes and headers under which a browser may show or save them. Raises Refused file_not_found."""
    file = world.files.get(file_id)
    if file is None:
        raise Refused("file_not_found")
    safe = file["mimetype"] in SHOWN_IN_PLACE
    return base64.b64decode(file["content"]), {
        "content-type": file["mimetype"] if safe else "application/octet-stream",
        "content-disposition": "inline" if safe else "attachment",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }


METHODS: dict[str, Method] = {"files.getUploadURLExternal": announce, "files.completeUploadExternal": complete}
