"""chat.* and reactions.*; streams have a file of their own. Source of names, arguments and codes: docs.slack.dev/reference/methods."""

import re

from bot.workspace import limits
from bot.workspace.api import Api, Method, flag, need, place, readable
from bot.workspace.events import shown
from bot.workspace.records import Json
from bot.workspace.refused import Refused
from bot.workspace.world import STREAM_OVER, with_block_ids

MOST_USERS = 50  # of one reaction, unless `full` is asked for; `count` is always whole


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
    message = own(api, channel.id, need(given, "ts"), "cant_update_message")
    if channel.is_archived:
        raise Refused("is_archived")
    content = _content(given, updated=True)
    if "metadata" in given:
        content["metadata"] = limits.metadata(given["metadata"]) if given["metadata"] else None
    if message.get("streaming"):
        if api.streaming(message):
            raise Refused("streaming_state_conflict")
        content |= STREAM_OVER
    if content.get("blocks") == []:
        content["blocks"] = None
    by = None if "blocks" in content else api.me  # an update with blocks is not marked as edited
    message = api.world.edit(channel.id, message["ts"], content, by=by)
    return {"channel": channel.id, "ts": message["ts"], "text": message["text"], "message": shown(message)}


def delete(api: Api, given: Json) -> Json:
    channel = readable(api, given)
    message = own(api, channel.id, need(given, "ts"), "cant_delete_message")
    api.world.delete(channel.id, message["ts"])
    return {"channel": channel.id, "ts": message["ts"]}


def post_ephemeral(api: Api, given: Json) -> Json:
    channel, user = readable(api, given), need(given, "user")
    if user not in channel.members:
        raise Refused("user_not_in_channel")
    content, thread_ts = _content(given), given.get("thread_ts") or None
    if thread_ts and not api.world.replies.get((channel.id, thread_ts)):
        return {"message_ts": api.world.next_ts()}  # as Slack: taken, and shown to nobody where there is no thread yet
    return {"message_ts": api.world.whisper(user, channel.id, content, thread_ts=thread_ts)["ts"]}


def get_permalink(api: Api, given: Json) -> Json:
    message = api.world.message(need(given, "channel"), need(given, "message_ts"))
    name = f"{api.url}archives/{given['channel']}/p{message['ts'].replace('.', '')}"
    return {"channel": given["channel"], "permalink": name}


def _content(given: Json, *, updated: bool = False) -> Json:
    content = limits.content(given, updated=updated)
    return {**content, "blocks": with_block_ids(content["blocks"])} if "blocks" in content else content


def own(api: Api, channel: str, ts: str, otherwise: str) -> Json:
    """A message of the app. Raises Refused `otherwise` when somebody else wrote it."""
    message = api.world.message(channel, ts)
    if message["user"] != api.me:
        raise Refused(otherwise)
    return message


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
    seen = shown(message)
    if not flag(given, "full"):
        for reaction in seen.get("reactions", []):
            reaction["users"] = reaction["users"][:MOST_USERS]
    return {"type": "message", "channel": channel.id, "message": seen}


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
    "reactions.add": react,
    "reactions.remove": unreact,
    "reactions.get": reactions_of,
}
