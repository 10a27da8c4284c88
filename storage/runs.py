"""Runs: one at a time whoever asks, held by a lease, resumed by whoever finds the lease expired."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.errors import Busy, LostLease
from storage.records import Run, RunState

_ACTIVE = "('requested','building','training','scoring')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast this installation was: medians over its decided runs."""

    seconds_per_row: float  # training seconds of one row in one epoch
    other_s: float  # building, loading, scoring and deciding
    runs: int

    def seconds(self, *, rows: float, epochs: float) -> float:
        """What a run over so many training rows would take."""
        return rows * epochs * self.seconds_per_row + self.other_s


class Runs:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def request(
        self, *, reason: str, requested_by: str, overrides: Mapping[str, Any], channel: str | None = None
    ) -> int:
        """Ask for a run; returns its id. Raises Busy naming the active run: there is one at a time."""
        with self._connections.write() as db:
            try:
                return int(
                    db.execute(
                        "INSERT INTO runs(reason, requested_by, requested_at, overrides, channel) VALUES (?,?,?,?,?)",
                        (reason, requested_by, to_text(self._clock()), json.dumps(dict(overrides)), channel),
                    ).lastrowid
                    or 0
                )
            except sqlite3.IntegrityError:  # looked up in here: who is active may share our transaction
                active = self.active()
                who = (
                    f"run {active.run_id} ({active.state}, asked by {active.requested_by})" if active else "another run"
                )
                raise Busy(
                    f"{who} is active, and there is one run at a time. Next: wait for it, or cancel it."
                ) from None

    def active(self) -> Run | None:
        return self._one(f"SELECT * FROM runs WHERE state IN {_ACTIVE}")

    def get(self, run_id: int) -> Run | None:
        return self._one("SELECT * FROM runs WHERE run_id=?", run_id)

    def recent(self, limit: int = 20) -> tuple[Run, ...]:
        rows = self._connections.db.query("SELECT * FROM runs ORDER BY run_id DESC LIMIT ?", (limit,))
        return tuple(_run(row) for row in rows)

    def last_active(self) -> datetime | None:
        """Until when there was a run that trains: now while one is active, else its end. None without any."""
        (found,) = self._connections.db.execute(
            "SELECT max(coalesce(finished_at, ?)) FROM runs WHERE json_extract(overrides, '$.dry_run') IS NULL",
            (to_text(self._clock()),),
        ).fetchone()
        return from_text(found) if found else None

    def is_held(self, run_id: int) -> bool:
        """Whether a worker holds this run now: its lease is not over."""
        held = "SELECT 1 FROM runs WHERE run_id=? AND lease_until >= ?"
        return self._connections.db.execute(held, (run_id, to_text(self._clock()))).fetchone() is not None

    def claim(self, *, owner: str, lease_s: float) -> Run | None:
        """The active run, if nobody holds it; the caller's fence is the row's, one higher than before."""
        now = self._clock()
        with self._connections.write() as db:
            cursor = db.execute(
                f"UPDATE runs SET lease_owner=?, lease_until=?, fence=fence+1, started_at=coalesce(started_at, ?)"
                f" WHERE state IN {_ACTIVE} AND (lease_until IS NULL OR lease_until < ?)",
                (owner, to_text(now + timedelta(seconds=lease_s)), to_text(now), to_text(now)),
            )
            if cursor.rowcount == 0:
                return None
            return _run(next(db.query(f"SELECT * FROM runs WHERE state IN {_ACTIVE}")))

    def advance(self, run: Run, *, state: RunState, lease_s: float, **columns: Any) -> Run:
        """Move the run on and hold it longer. `columns` may set dataset_digest, adapter_digest, decision_id, error.

        A state outside the active ones ends the run. Raises LostLease.
        """
        ended = state in ("decided", "failed", "cancelled")
        values = {
            **columns,
            "state": state,
            "lease_until": None if ended else to_text(self._clock() + timedelta(seconds=lease_s)),
        }
        if ended:
            values["finished_at"] = to_text(self._clock())
        self._fenced(run, values)
        moved = self.get(run.run_id)
        assert moved is not None
        return moved

    def report_progress(self, run: Run, progress: Mapping[str, Any], *, lease_s: float) -> bool:
        """Store what people see of a live run, hold it longer; True if somebody asked to cancel. Raises LostLease."""
        self._fenced(
            run,
            {
                "progress": json.dumps(dict(progress)),
                "lease_until": to_text(self._clock() + timedelta(seconds=lease_s)),
            },
        )
        found = self._connections.db.execute(
            "SELECT cancel_requested FROM runs WHERE run_id=?", (run.run_id,)
        ).fetchone()
        return bool(found[0])

    def cancel(self, run_id: int) -> bool:
        """Ask the worker to stop; an unclaimed run ends at once. False if the run is not active."""
        with self._connections.write() as db:
            unclaimed = db.execute(
                "UPDATE runs SET state='cancelled', finished_at=?, cancel_requested=1 WHERE run_id=? AND state='requested'"
                " AND lease_until IS NULL",
                (to_text(self._clock()), run_id),
            ).rowcount
            asked = db.execute(
                f"UPDATE runs SET cancel_requested=1 WHERE run_id=? AND state IN {_ACTIVE}", (run_id,)
            ).rowcount
        return bool(unclaimed or asked)

    def release(self, run: Run) -> None:
        """Let go of an unfinished run, so that the next worker resumes it at once. Another holder keeps it."""
        with self._connections.write() as db:
            db.execute(
                f"UPDATE runs SET lease_owner=NULL, lease_until=NULL WHERE run_id=? AND fence=? AND state IN {_ACTIVE}",
                (run.run_id, run.fence),
            )

    def set_message(self, run_id: int, *, channel: str, message_ts: str) -> None:
        """Remember the one live Slack message of the run."""
        with self._connections.write() as db:
            db.execute("UPDATE runs SET channel=?, message_ts=? WHERE run_id=?", (channel, message_ts, run_id))

    def note(self, run_id: int, stage: str, text: str, data: Mapping[str, Any] | None = None) -> None:
        """One line of the run's history."""
        with self._connections.write() as db:
            db.execute(
                "INSERT INTO run_events(run_id, at, stage, text, data) VALUES (?,?,?,?,?)",
                (run_id, to_text(self._clock()), stage, text, json.dumps(dict(data or {}))),
            )

    def history(self, run_id: int) -> tuple[dict[str, Any], ...]:
        rows = self._connections.db.query(
            "SELECT at, stage, text, data FROM run_events WHERE run_id=? ORDER BY run_event_id", (run_id,)
        )
        return tuple({**row, "data": json.loads(row["data"])} for row in rows)

    def pace(self, newest: int = 10) -> Pace | None:
        """Measured on the newest runs that trained and were decided; None without any: nothing to estimate from."""
        rows = self._connections.db.query(
            "SELECT json_extract(a.stats, '$.seconds') AS training, json_extract(a.recipe, '$.epochs') AS epochs,"
            " json_extract(d.manifest, '$.train.rows') AS rows, (SELECT coalesce(sum(json_extract(n.data, '$.seconds')), 0)"
            " FROM run_events n WHERE n.run_id=r.run_id) AS noted"
            " FROM runs r JOIN adapters a ON a.digest=r.adapter_digest JOIN datasets d ON d.digest=r.dataset_digest"
            " WHERE r.state='decided' AND a.run_id=r.run_id ORDER BY r.run_id DESC LIMIT ?",
            (newest,),
        )
        known = [row for row in rows if row["training"] and row["epochs"] and row["rows"]]
        if not known:
            return None
        return Pace(
            seconds_per_row=median(row["training"] / (row["epochs"] * row["rows"]) for row in known),
            other_s=median(max(0.0, row["noted"] - row["training"]) for row in known),
            runs=len(known),
        )

    def _fenced(self, run: Run, values: Mapping[str, Any]) -> None:
        changes = ", ".join(f"{name}=?" for name in values)
        with self._connections.write() as db:
            cursor = db.execute(
                f"UPDATE runs SET {changes} WHERE run_id=? AND fence=? AND state IN {_ACTIVE}",
                (*values.values(), run.run_id, run.fence),
            )
            if cursor.rowcount != 1:
                raise LostLease(f"run {run.run_id}: lease {run.fence} is no longer held")

    def _one(self, sql: str, *values: Any) -> Run | None:
        row = next(self._connections.db.query(sql, values), None)
        return None if row is None else _run(row)


def _run(row: dict[str, Any]) -> Run:
    when = {name: from_text(row[name]) if row[name] else None for name in ("started_at", "finished_at")}
    return Run(
        run_id=row["run_id"],
        state=row["state"],
        reason=row["reason"],
        requested_by=row["requested_by"],
        requested_at=from_text(row["requested_at"]),
        overrides=json.loads(row["overrides"]),
        channel=row["channel"],
        message_ts=row["message_ts"],
        dataset_digest=row["dataset_digest"],
        adapter_digest=row["adapter_digest"],
        decision_id=row["decision_id"],
        progress=json.loads(row["progress"]),
        error=row["error"],
        cancel_requested=bool(row["cancel_requested"]),
        fence=row["fence"],
        **when,
    )
