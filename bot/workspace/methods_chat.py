"""chat.*, reactions.* and the streams. Source of names, arguments and codes: docs.slack.dev/reference/methods."""

import re

from bot.workspace import limits
from bot.workspace.api import Api, Method, flag, need, place, readable
from bot.workspace.events import shown
from bot.workspace.records import Json
from bot.workspace.refused import Refused
from bot.workspace.world import with_block_ids

STREAM_S = 300.0


def post_message(api: Api, given: Json) -> Json:
    channel = place(api, given)
    content = _content(given)
    if given.get("metadata"):
        content["metadata"] = limits.metadata(given["metadata"])
    thread_ts = str(given.get("thread_ts") or "") or None
    if thread_ts and flag(given, "reply_broadcast"):
        content["subtype"] = "thread_broadcast"
    if given.get("username"):
        content["username"] = str(given["username"])
    message = api.world.post(channel.id, api.me, content, thread_ts=thread_ts)
    return {"channel": channel.id, "ts": message["ts"], "message": shown(message)}


def update(api: Api, given: Json) -> Json:
    channel = readable(api, given)
    message = _own(api, channel.id, need(given, "ts"), "cant_update_message")
    if channel.is_archived:
        raise Refused("is_archived")
    content = _content(given, updated=True)
    if "metadata" in given:
        content["metadata"] = limits.metadata(given["metadata"]) if given["metadata"] else None
    if message.get("streaming"):
        content |= {"streaming": None, "stream_started": None}
    if content.get("blocks") == []:
        content["blocks"] = None
    by = None if "blocks" in content else api.me  # an update with blocks is not marked as edited
    message = api.world.edit(channel.id, message["ts"], content, by=by)
    return {"channel": channel.id, "ts": message["ts"], "text": message["text"], "message": shown(message)}


def delete(api: Api, given: Json) -> Json:
    channel = readable(api, given)
    message = _own(api, channel.id, need(given, "ts"), "cant_delete_message")
    api.world.delete(channel.id, message["ts"])
    return {"channel": channel.id, "ts": message["ts"]}


def post_ephemeral(api: Api, given: Json) -> Json:
    channel, user = readable(api, given), need(given, "user")
    if user not in channel.members:
        raise Refused("user_not_in_channel")
    note = api.world.whisper(user, channel.id, _content(given), thread_ts=given.get("thread_ts") or None)
    return {"message_ts": note["ts"]}


def get_permalink(api: Api, given: Json) -> Json:
    message = api.world.message(need(given, "channel"), need(given, "message_ts"))
    name = f"{api.url}archives/{given['channel']}/p{message['ts'].replace('.', '')}"
    return {"channel": given["channel"], "permalink": name}


def _content(given: Json, *, updated: bool = False) -> Json:
    content = limits.content(given, updated=updated)
    return {**content, "blocks": with_block_ids(content["blocks"])} if "blocks" in content else content


def _own(api: Api, channel: str, ts: str, otherwise: str) -> Json:
    message = api.world.message(channel, ts)
    if message["user"] != api.me:
        raise Refused(otherwise)
    return message


# Streams


def start_stream(api: Api, given: Json) -> Json:
    channel = readable(api, given)
    thread_ts = need(given, "thread_ts")
    if channel.kind == "channel":
        for name in ("recipient_user_id", "recipient_team_id"):
            if not given.get(name):
                raise Refused(f"missing_{name}")
    grown = _grown([], given)
    more = {"streaming": True, "stream_started": api.world.now()}
    message = api.world.post(channel.id, api.me, grown, thread_ts=thread_ts, **more)
    return {"channel": channel.id, "ts": message["ts"]}


def append_stream(api: Api, given: Json) -> Json:
    channel, message = _stream(api, given)
    api.world.edit(channel, message["ts"], _grown(message.get("blocks", []), given), by=None, heard=False)
    return {"channel": channel, "ts": message["ts"]}


def stop_stream(api: Api, given: Json) -> Json:
    channel, message = _stream(api, given)
    content = _grown(message.get("blocks", []), given)
    if sum(len(block["text"]) for block in content["blocks"] if block["type"] == "markdown") > limits.MARKDOWN:
        raise Refused("msg_too_long")
    if given.get("blocks"):
        limits.check_blocks(given["blocks"], most=limits.MESSAGE_BLOCKS)
        content["blocks"] = [*content["blocks"], *with_block_ids(given["blocks"])]
    if given.get("metadata"):
        content["metadata"] = limits.metadata(given["metadata"])
    content |= {"streaming": None, "stream_started": None}
    message = api.world.edit(channel, message["ts"], content, by=None)
    return {"channel": channel, "ts": message["ts"], "message": shown(message)}


def _stream(api: Api, given: Json) -> tuple[str, Json]:
    channel = readable(api, given)
    message = _own(api, channel.id, need(given, "ts"), "message_not_owned_by_app")
    if not message.get("streaming") or api.world.now() - message["stream_started"] > STREAM_S:
        raise Refused("message_not_in_streaming_state")
    return channel.id, message


def _grown(blocks: list[Json], given: Json) -> Json:
    """The content of a stream with what this call adds: markdown runs on, tasks stand in a line of their own."""
    grown = [dict(block) for block in blocks]
    if given.get("markdown_text") is not None and given.get("chunks"):
        raise Refused("markdown_text_conflict")
    chunks = given.get("chunks") or [{"type": "markdown_text", "text": str(given.get("markdown_text") or "")}]
    for chunk in chunks:
        _add(grown, chunk if isinstance(chunk, dict) else {})
    text = "".join(block["text"] for block in grown if block["type"] == "markdown")
    return {"text": text, "blocks": with_block_ids(grown)}


def _add(grown: list[Json], chunk: Json) -> None:
    kind = chunk.get("type")
    if kind == "markdown_text" and isinstance(chunk.get("text"), str):
        if len(chunk["text"]) > limits.MARKDOWN:
            raise Refused("msg_too_long")
        if not chunk["text"]:
            return
        if grown and grown[-1]["type"] == "markdown":
            grown[-1]["text"] += chunk["text"]
        else:
            grown.append({"type": "markdown", "text": chunk["text"]})
    elif kind in ("task_update", "plan_update"):
        name = f"{kind}-{chunk.get('id', '')}"
        said = f"{chunk.get('title', '')} {'· ' + chunk['status'] if chunk.get('status') else ''}".strip() or "…"
        line = {"type": "context", "block_id": name, "elements": [{"type": "plain_text", "text": said}]}
        known = next((at for at, block in enumerate(grown) if block.get("block_id") == name), None)
        if known is None:
            grown.append(line)
        else:
            grown[known] = line
    elif kind == "blocks":
        limits.check_blocks(chunk.get("blocks"), most=limits.MESSAGE_BLOCKS)
        grown.extend(with_block_ids(chunk["blocks"]))
    else:
        raise Refused("invalid_chunks")


# Reactions


def react(api: Api, given: Json) -> Json:
    api.world.react(api.me, need(given, "channel"), need(given, "timestamp"), _emoji(given), on=True)
    return {}


def unreact(api: Api, given: Json) -> Json:
    api.world.react(api.me, need(given, "channel"), need(given, "timestamp"), _emoji(given), on=False)
    return {}


def reactions_of(api: Api, given: Json) -> Json:
    channel = readable(api, given)
    message = api.world.message(channel.id, need(given, "timestamp"))
    return {"type": "message", "channel": channel.id, "message": shown(message)}


def _emoji(given: Json) -> str:
    name = need(given, "name").strip(":")
    if not re.fullmatch(r"[\w+'-]+(::skin-tone-[2-6])*", name):
        raise Refused("invalid_name")
    return name


METHODS: dict[str, Method] = {
    "chat.postMessage": post_message,
    "chat.update": update,
    "chat.delete": delete,
    "chat.postEphemeral": post_ephemeral,
    "chat.getPermalink": get_permalink,
    "chat.startStream": start_stream,
    "chat.appendStream": append_stream,
    "chat.stopStream": stop_stream,
    "reactions.add": react,
    "reactions.remove": unreact,
    "reactions.get": reactions_of,
}
