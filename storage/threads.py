"""Who speaks in a thread: the bot, nobody yet (a person was asked for), a person, or nobody any more (resolved).

Promise: a thread without a row is the bot's; a change is one row, and the last word stands.
"""

from dataclasses import dataclass
from typing import Literal

from storage.clock import Clock, to_text
from storage.database import Connections

ThreadState = Literal["bot", "waiting", "person", "resolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread as it stands. `person`: who asked for a person, or who took over. `note_ts`: the message that calls for one."""

    team: str
    channel: str
    thread_ts: str
    state: ThreadState = "bot"
    person: str = ""
    note_ts: str | None = None

    @property
    def bot_speaks(self) -> bool:
        """Whether the bot answers what is said here without naming it."""
        return self.state in ("bot", "resolved")


class Threads:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def get(self, team: str, channel: str, thread_ts: str) -> Thread:
        row = next(
            self._connections.db.query(
                "SELECT team, channel, thread_ts, state, person, note_ts FROM threads"
                " WHERE team=? AND channel=? AND thread_ts=?",
                (team, channel, thread_ts),
            ),
            None,
        )
        return Thread(**row) if row else Thread(team=team, channel=channel, thread_ts=thread_ts)

    def set(self, thread: Thread, state: ThreadState, *, person: str) -> Thread:
        """The thread in its new state; the message that called for a person stays known."""
        with self._connections.write() as db:
            db.execute(
                "INSERT INTO threads(team, channel, thread_ts, state, person, note_ts, at) VALUES (?,?,?,?,?,NULL,?)"
                " ON CONFLICT DO UPDATE SET state=excluded.state, person=excluded.person, at=excluded.at",
                (thread.team, thread.channel, thread.thread_ts, state, person, to_text(self._clock())),
            )
        return self.get(thread.team, thread.channel, thread.thread_ts)

    def note_posted(self, thread: Thread, note_ts: str) -> None:
        """Remember the message that calls for a person."""
        with self._connections.write() as db:
            db.execute(
                "UPDATE threads SET note_ts=? WHERE team=? AND channel=? AND thread_ts=?",
                (note_ts, thread.team, thread.channel, thread.thread_ts),
            )

    def count(self, state: ThreadState) -> int:
        found = self._connections.db.execute("SELECT count(*) FROM threads WHERE state=?", (state,)).fetchone()
        return int(found[0])
