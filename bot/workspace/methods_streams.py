"""chat.startStream, appendStream, stopStream: an answer that grows in place, and the session that it opens.

Promise: a stream lives `Api.stream_life_s` from its start, however often it is fed; a person's Stop ends it at once.
Source of names, arguments and codes: docs.slack.dev/reference/methods; the five minutes are as measured by others.
"""

from bot.workspace import limits
from bot.workspace.api import Api, Method, need, readable
from bot.workspace.events import shown
from bot.workspace.methods_chat import own
from bot.workspace.methods_views import session_status
from bot.workspace.records import Json
from bot.workspace.refused import Refused
from bot.workspace.world import STREAM_OVER, with_block_ids


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
    api.sessions.set(channel.id, message["thread_ts"], "processing")
    return {"channel": channel.id, "ts": message["ts"]}


def append_stream(api: Api, given: Json) -> Json:
    channel, message = _stream(api, given)
    api.world.edit(channel, message["ts"], _grown(message.get("blocks", []), given), by=None, heard=False)
    return {"channel": channel, "ts": message["ts"]}


def stop_stream(api: Api, given: Json) -> Json:
    session = session_status(given.get("session_status") or "active")
    channel, message = _stream(api, given)
    content = _grown(message.get("blocks", []), given)
    if sum(len(block["text"]) for block in content["blocks"] if block["type"] == "markdown") > limits.MARKDOWN:
        raise Refused("msg_too_long")
    if given.get("blocks"):
        limits.check_blocks(given["blocks"], most=limits.MESSAGE_BLOCKS)
        content["blocks"] = [*content["blocks"], *with_block_ids(given["blocks"])]
    if given.get("metadata"):
        content["metadata"] = limits.metadata(given["metadata"])
    message = api.world.edit(channel, message["ts"], content | STREAM_OVER, by=None)
    api.sessions.set(channel, message["thread_ts"], session)
    return {"channel": channel, "ts": message["ts"], "message": shown(message)}


def _stream(api: Api, given: Json) -> tuple[str, Json]:
    channel = readable(api, given)
    message = own(api, channel.id, need(given, "ts"), "message_not_owned_by_app")
    if message.get("stream_stopped"):
        raise Refused("stopped_by_user")
    if not api.streaming(message):
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


METHODS: dict[str, Method] = {
    "chat.startStream": start_stream,
    "chat.appendStream": append_stream,
    "chat.stopStream": stop_stream,
}
