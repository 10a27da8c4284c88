"""What is in the workspace: people, channels, messages, reactions, private notes, files.

Promise: everything that happens is told to the listeners, in order. One thread owns a World. Refuses with Slack's
codes; knows no transport and no limits of size.
"""

import itertools
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from bot.workspace import seed
from bot.workspace.records import (
    App,
    Change,
    Changed,
    Channel,
    Deleted,
    Json,
    Posted,
    Reacted,
    Role,
    User,
    Usergroup,
    Whispered,
)
from bot.workspace.refused import Refused

Messages = dict[str, Json]
TOMBSTONE = "This message was deleted."
KEPT_BY_TOMBSTONE = {
    "type",
    "team",
    "ts",
    "thread_ts",
    "reply_count",
    "reply_users",
    "reply_users_count",
    "latest_reply",
}
STREAM_OVER: Json = {"streaming": None, "stream_started": None}


@dataclass(slots=True, kw_only=True)
class World:
    app: App
    now: Callable[[], float]
    users: dict[str, User] = field(default_factory=lambda: {user.id: user for user in seed.USERS})
    usergroups: dict[str, Usergroup] = field(default_factory=lambda: {group.id: group for group in seed.USERGROUPS})
    channels: dict[str, Channel] = field(default_factory=lambda: {channel.id: channel for channel in seed.CHANNELS})
    messages: dict[str, Messages] = field(default_factory=lambda: {channel.id: {} for channel in seed.CHANNELS})
    notes: dict[str, list[Json]] = field(default_factory=dict)  # who sees it → messages that only they see
    replies: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)  # (channel, parent) → ts in order
    files: dict[str, Json] = field(default_factory=dict)
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    last_ts: float = 0.0

    def tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)

    def next_ts(self) -> str:
        """A ts that no message had before: microseconds, always rising."""
        self.last_ts = max(round(self.now(), 6), round(self.last_ts + 1e-6, 6))
        return f"{self.last_ts:.6f}"

    # People and places

    def user(self, user: str) -> User:
        """Raises Refused user_not_found."""
        if user not in self.users:
            raise Refused("user_not_found")
        return self.users[user]

    def role_of(self, user: str) -> Role:
        """By usergroup, as the bot's settings of the demo have it."""
        if self.users[user].is_bot:
            return "bot"
        if user in self.usergroups["S0ADMINS"].users:
            return "admin"
        return "agent" if user in self.usergroups["S0AGENTS"].users else "customer"

    def channel(self, channel: str) -> Channel:
        """Raises Refused channel_not_found."""
        if channel not in self.channels:
            raise Refused("channel_not_found")
        return self.channels[channel]

    def dm(self, *members: str) -> Channel:
        """The direct message of these two, opened if there was none."""
        pair = tuple(sorted({self.user(member).id for member in members}))
        for channel in self.channels.values():
            if channel.kind == "im" and channel.members == pair:
                return channel
        people = [member for member in pair if member != self.app.user_id]
        name = "D0" + "".join(member.removeprefix("U0") for member in people)
        opened = Channel(id=name, name="", kind="im", members=pair)
        self.channels[opened.id], self.messages[opened.id] = opened, {}
        return opened

    def change_user(self, user: str, **changes: Any) -> None:
        """Other flags: deleted, a guest, a stranger."""
        self.users[user] = replace(self.user(user), **changes)

    def change_channel(self, channel: str, **changes: Any) -> None:
        """Other members, or archived."""
        self.channels[channel] = replace(self.channel(channel), **changes)

    # Messages

    def message(self, channel: str, ts: str) -> Json:
        """Raises Refused channel_not_found, message_not_found."""
        found = self.messages[self.channel(channel).id].get(ts)
        if found is None or found.get("subtype") == "tombstone":
            raise Refused("message_not_found")
        return found

    def thread(self, channel: str, ts: str) -> list[Json]:
        """The parent and its replies in order. Raises Refused thread_not_found."""
        said = self.messages[self.channel(channel).id]
        if ts not in said:
            raise Refused("thread_not_found")
        return [said[ts], *(said[reply] for reply in self.replies.get((channel, ts), ()))]

    def index(self) -> None:
        """Find the replies of every thread anew, after the messages came from elsewhere."""
        self.replies = {}
        for channel, said in self.messages.items():
            for message in said.values():
                if message.get("thread_ts") not in (None, message["ts"]):
                    self.replies.setdefault((channel, message["thread_ts"]), {})[message["ts"]] = None

    def post(self, channel: str, user: str, content: Json, *, thread_ts: str | None = None, **more: Any) -> Json:
        """A new message of `user`. Content is text, blocks, metadata, files … in Slack's shape.

        Raises Refused: channel_not_found, is_archived, not_in_channel, thread_not_found.
        """
        place = self.writable(channel, user)
        parent = self._parent(place, thread_ts) if thread_ts else None
        message: Json = {"type": "message", "user": user, **self._by(user), "ts": self.next_ts()}
        message |= {"text": "", **content, **more}
        if parent is not None:
            message["thread_ts"] = parent["ts"]
            self.replies.setdefault((place.id, parent["ts"]), {})[message["ts"]] = None
        self.messages[place.id][message["ts"]] = message
        self.tell(Posted(channel=place, message=message))
        if parent is not None:
            self._count(place, parent, message)
        return message

    def writable(self, channel: str, user: str) -> Channel:
        """The channel, in which `user` may write. Raises Refused."""
        place = self.channel(channel)
        if place.is_archived:
            raise Refused("is_archived")
        if user not in place.members:
            raise Refused("not_in_channel" if place.kind == "channel" else "channel_not_found")
        return place

    def _by(self, user: str) -> Json:
        """What a message tells of its author beside the id."""
        person = self.users[user]
        said: Json = {"team": person.team_id}
        if person.team_id != seed.TEAM:
            said |= {"user_team": person.team_id, "source_team": person.team_id}
        if not person.bot_id:
            return {**said, "client_msg_id": str(uuid.uuid4())}
        app = {"id": person.bot_id, "name": person.real_name, "app_id": f"A{person.bot_id[1:]}"}
        return {**said, "bot_id": app["id"], "app_id": app["app_id"], "bot_profile": {**app, "team_id": person.team_id}}

    def _parent(self, place: Channel, ts: str) -> Json:
        found = self.messages[place.id].get(ts)
        if found is None:
            raise Refused("thread_not_found")
        root = found.get("thread_ts", ts)
        return self.messages[place.id].get(root, found)

    def _count(self, place: Channel, parent: Json, reply: Json) -> None:
        previous = dict(parent)
        users = list(dict.fromkeys([*parent.get("reply_users", []), reply["user"]]))
        parent |= {
            "thread_ts": parent["ts"],
            "reply_count": parent.get("reply_count", 0) + 1,
            "reply_users": users,
            "reply_users_count": len(users),
            "latest_reply": reply["ts"],
        }
        self.tell(Changed(channel=place, message=parent, previous=previous))

    def edit(self, channel: str, ts: str, content: Json, *, by: str | None, heard: bool = True) -> Json:
        """The message with this content in place of the old; `by` marks it as edited by that user."""
        message = self.message(channel, ts)
        previous = dict(message)
        message |= content
        for name in [name for name, value in content.items() if value is None]:
            del message[name]
        if by is not None:
            message["edited"] = {"user": by, "ts": self.next_ts()}
        self.tell(Changed(channel=self.channels[channel], message=message, previous=previous, heard=heard))
        return message

    def delete(self, channel: str, ts: str) -> None:
        """Gone; a parent with replies leaves a tombstone, and a parent's count goes down with its reply."""
        message, place = self.message(channel, ts), self.channels[channel]
        if message.get("reply_count"):
            gone = dict.fromkeys(message.keys() - KEPT_BY_TOMBSTONE)
            self.edit(channel, ts, {**gone, "subtype": "tombstone", "user": "USLACKBOT", "text": TOMBSTONE}, by=None)
            return
        del self.messages[channel][ts]
        self.replies.get((channel, message.get("thread_ts", "")), {}).pop(ts, None)
        self.tell(Deleted(channel=place, message=message))
        parent = self.messages[channel].get(message.get("thread_ts", ""))
        if parent is not None:
            previous = dict(parent)
            self._recount(channel, parent)
            self.tell(Changed(channel=place, message=parent, previous=previous))

    def _recount(self, channel: str, parent: Json) -> None:
        left = [self.messages[channel][ts] for ts in self.replies[(channel, parent["ts"])]]
        users = list(dict.fromkeys(reply["user"] for reply in left))
        parent |= {"reply_count": len(left), "reply_users": users, "reply_users_count": len(users)}
        if left:
            parent["latest_reply"] = left[-1]["ts"]
        else:
            parent.pop("latest_reply", None)

    def react(self, user: str, channel: str, ts: str, name: str, *, on: bool) -> None:
        """Add or take back. Raises Refused already_reacted, no_reaction, not_in_channel …"""
        message, place = self.message(channel, ts), self.writable(channel, user)
        given: list[Json] = message.get("reactions", [])
        entry = next((each for each in given if each["name"] == name), None)
        if on and entry is None:
            entry = {"name": name, "users": [], "count": 0}
            given = [*given, entry]
        if entry is None or on == (user in entry["users"]):
            raise Refused("already_reacted" if on else "no_reaction")
        (entry["users"].append if on else entry["users"].remove)(user)
        entry["count"] = len(entry["users"])
        message["reactions"] = [each for each in given if each["users"]]
        if not message["reactions"]:
            del message["reactions"]
        self.tell(Reacted(channel=place, message=message, user=user, name=name, added=on, at=self.next_ts()))

    # What one person sees

    def whisper(
        self, user: str, channel: str, content: Json, *, thread_ts: str | None = None, app: bool = True
    ) -> Json:
        """A private note to `user`, by the app or (a command that failed) by Slack itself."""
        author = {"user": self.app.user_id, **self._by(self.app.user_id)} if app else {"user": "USLACKBOT"}
        message = {
            "type": "message",
            "is_ephemeral": True,
            **author,
            "ts": self.next_ts(),
            "channel": channel,
            **content,
        }
        if thread_ts:
            message["thread_ts"] = thread_ts
        self.notes.setdefault(user, []).append(message)
        self.tell(Whispered(user=user, channel=channel, message=message))
        return message

    def note(self, user: str, channel: str, ts: str) -> Json | None:
        """The private note with this ts, if there is one."""
        return next((m for m in self.notes.get(user, []) if m["ts"] == ts and m["channel"] == channel), None)

    def change_note(self, user: str, channel: str, ts: str, content: Json | None) -> None:
        """Other content in a private note, or None: take it back."""
        message = self.note(user, channel, ts)
        if message is None:
            raise Refused("message_not_found")
        if content is None:
            self.notes[user].remove(message)
        else:
            message |= content
        self.tell(Whispered(user=user, channel=channel, message=message, gone=content is None))


def with_block_ids(blocks: list[Json]) -> list[Json]:
    """The blocks, each with a block_id as Slack gives one."""
    return [block if block.get("block_id") else {**block, "block_id": secrets.token_hex(3)} for block in blocks]


_numbers = itertools.count(1)


def new_id(prefix: str) -> str:
    """An id that was never used: `Ev0A1B…`."""
    return f"{prefix}0{next(_numbers):04X}{secrets.token_hex(4).upper()}"
