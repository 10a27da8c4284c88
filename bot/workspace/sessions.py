"""What stands under each thread: the app's status line, its agent session, a title and prompts; and a person's Stop.

Promise: a status goes as soon as the app answers there; Stop ends every stream of its thread at once.
"""

from dataclasses import dataclass, field

from bot.workspace.records import Change, Json, Posted, StatusShown
from bot.workspace.refused import Refused
from bot.workspace.world import STREAM_OVER, World


@dataclass(slots=True, kw_only=True)
class Sessions:
    world: World
    threads: dict[tuple[str, str], Json] = field(default_factory=dict)  # (channel, thread_ts) → status, session …

    def hear(self, change: Change) -> None:
        """An answer of the app takes its status away."""
        if isinstance(change, Posted) and change.message["user"] == self.world.app.user_id:
            thread_ts = change.message.get("thread_ts")
            if thread_ts and self.threads.get((change.channel.id, thread_ts), {}).get("status"):
                self.status(change.channel.id, thread_ts, "")

    def note(self, channel: str, thread_ts: str, **known: object) -> None:
        """A title, or prompts."""
        self.threads.setdefault((channel, thread_ts), {}).update(known)

    def status(self, channel: str, thread_ts: str, text: str) -> None:
        """Show this line under the thread; empty takes it away."""
        known = self.threads.setdefault((channel, thread_ts), {})
        if known.get("status", "") != text:
            known["status"] = text
            self.world.tell(self.under(channel, thread_ts))

    def set(self, channel: str, thread_ts: str, status: str) -> None:
        """The app works on this thread (processing), rests (active), hands over (suspended) or is done (closed)."""
        known, before = self.threads.setdefault((channel, thread_ts), {}), self.under(channel, thread_ts)
        known.pop("stopping", None)
        known["session"] = status
        if self.under(channel, thread_ts) != before:
            self.world.tell(self.under(channel, thread_ts))

    def stop(self, channel: str, thread_ts: str) -> list[str]:
        """A person wants the app to stop here: its streams end. Their ts. Raises Refused not_processing."""
        known = self.threads.get((self.world.channel(channel).id, thread_ts), {})
        if known.get("session") != "processing" or known.get("stopping"):
            raise Refused("not_processing", text="Nothing is under way in this thread.")
        known["stopping"] = True
        ended = [message["ts"] for message in self.world.thread(channel, thread_ts) if message.get("streaming")]
        for ts in ended:
            self.world.edit(channel, ts, {**STREAM_OVER, "stream_stopped": True}, by=None)
        self.world.tell(self.under(channel, thread_ts))
        return ended

    def all(self) -> list[StatusShown]:
        """What stands under every thread."""
        return [self.under(*place) for place in self.threads]

    def under(self, channel: str, thread_ts: str) -> StatusShown:
        """What stands under this thread now."""
        known = self.threads.get((channel, thread_ts), {})
        session = known.get("session", "")
        return StatusShown(
            channel=self.world.channel(channel), thread_ts=thread_ts, text=known.get("status", ""), session=session,
            stoppable=session == "processing" and not known.get("stopping"),
        )  # fmt: skip
