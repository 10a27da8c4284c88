"""People, channels, and what can change in a workspace. Knows no protocol."""

from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Role = Literal["customer", "agent", "admin", "bot"]


def copied(value: Any) -> Any:
    """A deep copy of what is JSON, several times faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A member. The flags are those by which a bot tells full members from everybody else."""

    id: str
    name: str
    real_name: str
    is_bot: bool = False
    is_admin: bool = False
    is_restricted: bool = False
    is_ultra_restricted: bool = False
    is_stranger: bool = False
    deleted: bool = False
    team_id: str = "T0DEMO"  # another one: a person of another workspace, here by Slack Connect
    bot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A place for messages: a public channel, or `im`, a direct message of two."""

    id: str
    name: str
    kind: Literal["channel", "im"]
    members: tuple[str, ...]
    topic: str = ""
    is_archived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usergroup:
    id: str
    handle: str
    name: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The one app of the workspace, by its manifest."""

    id: str
    bot_id: str
    user_id: str
    manifest: Json = field(repr=False)

    @property
    def commands(self) -> list[Json]:
        return list(self.manifest.get("features", {}).get("slash_commands", []))

    @property
    def shortcuts(self) -> list[Json]:
        return list(self.manifest.get("features", {}).get("shortcuts", []))

    @property
    def bot_events(self) -> frozenset[str]:
        """The event subscriptions, such as `message.channels`."""
        return frozenset(self.manifest.get("settings", {}).get("event_subscriptions", {}).get("bot_events", []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A new message."""

    channel: Channel
    message: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A message became another. `heard`: the app is told; otherwise only the page is (a growing stream)."""

    channel: Channel
    message: Json
    previous: Json
    heard: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A message is gone."""

    channel: Channel
    message: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Reacted:
    """A person put an emoji on a message, or took it back. `at` rises from one to the next."""

    channel: Channel
    message: Json
    user: str
    name: str
    added: bool
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whispered:
    """A message that only one person sees; `gone` when it was taken back."""

    user: str
    channel: str
    message: Json
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalShown:
    """What this person's modal shows now; None: it closed."""

    user: str
    view: Json | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeShown:
    user: str
    view: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusShown:
    """What stands under a thread: the line "Evenkeel is thinking…" (empty: none) and the session's status."""

    channel: Channel
    thread_ts: str
    text: str
    session: str = ""
    stoppable: bool = False


Change = Posted | Changed | Deleted | Reacted | Whispered | ModalShown | HomeShown | StatusShown
