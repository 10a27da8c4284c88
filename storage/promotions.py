"""Decisions in a hash chain, and who serves. The last promotion row is the champion: one commit is the switch."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.digests import digest_of, short
from storage.errors import GateSaidNo, UsageError
from storage.records import Comparison, Decision, Promotion, Sharing
from storage.scores import Scores, score_digest, score_fault
from storage.standing import overtaken_by

GATE, WATCH = "gate", "watch"  # the actors that nobody sent


class Promotions:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock, self._scores = connections, clock, Scores(connections, clock)
        self._before: dict[int, Promotion | None] = {}

    def decide(self, decision: Decision, *, run_id: int | None, actor: str) -> int:
        """Append a decision; its digest covers its body, who made it and when, and the decision before it."""
        body, at = asdict(decision), to_text(self._clock())
        with self._connections.write() as db:
            last = db.execute("SELECT digest FROM decisions ORDER BY decision_id DESC LIMIT 1").fetchone()
            previous = last[0] if last else ""
            return int(
                db.execute(
                    "INSERT INTO decisions(run_id, verdict, body, previous, digest, actor, at, form) VALUES (?,?,?,?,?,?,?,2)",
                    (
                        run_id,
                        decision.verdict,
                        json.dumps(body),
                        previous,
                        decision_digest(body, previous, run_id, actor, at),
                        actor,
                        at,
                    ),
                ).lastrowid
                or 0
            )

    def decision(self, decision_id: int) -> Decision | None:
        row = self._connections.db.execute("SELECT body FROM decisions WHERE decision_id=?", (decision_id,)).fetchone()
        return None if row is None else decision_from(json.loads(row[0]))

    def promote(self, decision_id: int, *, actor: str, reason: str, percent: int = 100) -> Promotion:
        """Make the candidate of a PROMOTE decision the champion, for `percent` of the conversations until it graduates.

        Raises GateSaidNo when the verdict was another, when a link of the chains or a score that it rests on was changed
        or is gone, when a newer run was decided since, when the champion has changed since it was judged, or when the watch
        took this adapter back and no person sends it now; UsageError when there is no such decision.
        """
        with self._connections.write() as db:
            decision = self.decision(decision_id)
            if decision is None:
                raise UsageError(f"there is no decision {decision_id}. Next: evenkeel runs.")
            if decision.verdict != "PROMOTE":
                raise GateSaidNo(f"decision {decision_id} is {decision.verdict}: {'; '.join(decision.reasons)}")
            if faults := self.faults(scores_of=decision_id):
                raise GateSaidNo(
                    f"decision {decision_id} rests on a ledger that was changed: {faults[0]}. Next: evenkeel db verify."
                )
            if newer := overtaken_by(self._connections, decision_id):
                raise GateSaidNo(
                    f"decision {decision_id} is void: run {newer[0]} has ended with {newer[1]} since. "
                    f"Next: promote run {newer[0]} if it may, or retrain."
                )
            serving = self.champion_on(decision.base_digest)
            if serving != decision.champion_digest:
                raise GateSaidNo(
                    f"decision {decision_id} compared with champion {short(decision.champion_digest)}, but "
                    f"{short(serving)} serves now. Next: retrain, so that the gate sees what serves."
                )
            if actor == GATE and decision.candidate_digest in self._taken_back():
                raise GateSaidNo(
                    f"the watch took adapter {short(decision.candidate_digest)} back after it had gone live. Next: an admin "
                    f"may promote it all the same."
                )
            top = db.execute("SELECT coalesce(max(version), 0) FROM promotions").fetchone()[0]
            made = (decision.candidate_digest, decision.base_digest, decision_id, actor, reason, top + 1)
            return self._append("promote", *made, percent)

    def rollback(self, *, actor: str, reason: str, to_version: int | None = None) -> Promotion:
        """Let an earlier champion serve again: who answered everybody before, or `to_version` (0: the base alone).

        After a rollback, the one before is the next lower version. Raises UsageError when there is none, naming the
        versions that there are.
        """
        with self._connections.write():
            rows = self.history()
            serving = rows[-1] if rows else None
            if serving is None:
                raise UsageError("nothing was ever promoted: the base serves, there is nothing to roll back.")
            made = {p.version: p for p in rows if p.kind == "promote"}
            versions = {0, *made}
            target = self._one_before(serving, versions) if to_version is None else to_version
            if target not in versions or target == serving.version:
                raise UsageError(
                    f"cannot roll back from v{serving.version} to v{target}: versions are {sorted(versions)}."
                )
            again = made.get(target)
            adapter, base = (again.adapter_digest, again.base_digest) if again else (None, serving.base_digest)
            return self._append("rollback", adapter, base, None, actor, reason, target)

    def _one_before(self, serving: Promotion, versions: set[int]) -> int:
        if serving.kind == "promote":
            before = self.before(serving)
            return before.version if before else 0
        return max((v for v in versions if v < serving.version), default=-1)

    def champion(self) -> Promotion | None:
        """The last row: who serves. None before the first promotion: the base serves."""
        return next(reversed(self._rows("ORDER BY promotion_id DESC LIMIT 1")), None)

    def serves(self, promotion: Promotion) -> bool:
        """Whether this still is the last promotion."""
        newest = self.champion()
        return newest is not None and newest.promotion_id == promotion.promotion_id

    def champion_on(self, base_digest: str) -> str | None:
        """The serving adapter when it was made for this base: with another base's champion nothing can be compared."""
        serving = self.champion()
        return serving.adapter_digest if serving is not None and serving.base_digest == base_digest else None

    def history(self) -> tuple[Promotion, ...]:
        return self._rows("ORDER BY promotion_id")

    def sharing(self) -> Sharing | None:
        """Who speaks beside the champion; None when it answers everybody."""
        champion = self.champion()
        if champion is None or champion.percent == 100 or self.has_graduated(champion):
            return None
        if champion.promotion_id not in self._before:  # who served before it never changes
            self._before[champion.promotion_id] = self.before(champion)
        return Sharing(champion=champion, before=self._before[champion.promotion_id])

    def has_graduated(self, promotion: Promotion) -> bool:
        found = self._connections.db.execute(
            "SELECT 1 FROM watches WHERE promotion_id=? AND verdict='graduated'", (promotion.promotion_id,)
        ).fetchone()
        return promotion.percent == 100 or found is not None

    def before(self, promotion: Promotion) -> Promotion | None:
        """Who answered everybody before this promotion; None: the base, before any promotion."""
        earlier = (p for p in reversed(self.history()) if p.promotion_id < promotion.promotion_id)
        return next((p for p in earlier if self.has_graduated(p)), None)

    def _taken_back(self) -> set[str | None]:
        """Adapters that the watch rolled back and that no person has let serve since."""
        found: set[str | None] = set()
        rows = self.history()
        for earlier, later in zip(rows, rows[1:], strict=False):
            if later.actor == WATCH:
                found.add(earlier.adapter_digest)
            elif later.actor != GATE:
                found.discard(later.adapter_digest)
        return found

    def votes(self) -> dict[str | None, tuple[int, int]]:
        """(👍, 👎) that stand now for what each adapter said, one vote a person and answer; None is the base alone."""
        rows = self._connections.db.execute(
            "SELECT adapter_digest, sum(verdict > 0), sum(verdict < 0) FROM ("
            " SELECT a.adapter_digest, sum(r.sign) AS verdict FROM ratings r"
            " JOIN answers a ON a.exchange_id=r.exchange_id AND a.role='tuned' AND a.status='ok'"
            " GROUP BY r.exchange_id, r.user) GROUP BY adapter_digest"
        ).fetchall()
        return {digest: (up, down) for digest, up, down in rows}

    def confirm(self, promotion_id: int, outcome: str) -> None:
        """What the engine's canary said: "ok", or why the adapter was refused."""
        with self._connections.write() as db:
            db.execute(
                "UPDATE promotions SET confirmed=?, confirmed_at=? WHERE promotion_id=?",
                (outcome, to_text(self._clock()), promotion_id),
            )

    def _append(
        self,
        kind: str,
        adapter: str | None,
        base: str,
        decision_id: int | None,
        actor: str,
        reason: str,
        version: int,
        percent: int = 100,
    ) -> Promotion:
        with self._connections.write() as db:
            last = db.execute("SELECT digest FROM promotions ORDER BY promotion_id DESC LIMIT 1").fetchone()
            said = (kind, adapter, base, decision_id, actor, reason, to_text(self._clock()), version, percent)
            new = db.execute(
                "INSERT INTO promotions(kind, adapter_digest, base_digest, decision_id, actor, reason, at, version, percent,"
                " digest) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (*said, promotion_digest(last[0] if last else "", said)),
            ).lastrowid
            db.execute(
                "INSERT INTO audit(at, actor, action, detail) VALUES (?,?,?,?)",
                (to_text(self._clock()), actor, kind, json.dumps({"promotion_id": new, "version": version})),
            )
        return self._rows("WHERE promotion_id=?", new)[0]

    def _rows(self, rest: str, *values: Any) -> tuple[Promotion, ...]:
        rows = self._connections.db.query(
            "SELECT promotion_id, kind, adapter_digest, base_digest, decision_id, actor, reason, at, version, confirmed, percent"
            f" FROM promotions {rest}",
            values,
        )
        return tuple(Promotion(**{**row, "at": from_text(row["at"])}) for row in rows)

    def faults(self, *, scores_of: int | None = None) -> tuple[str, ...]:
        """Every row of the two chains that was changed or is gone, and every score that a decision, or that one, rests on;
        empty: sound."""
        return (*self._decision_faults(scores_of), *self._promotion_faults(), *self._dangling())

    def is_sound(self, decision_id: int) -> bool:
        """Whether this decision's row still is the link that was written behind the one before it."""
        rows = list(
            self._connections.db.query(
                "SELECT * FROM decisions WHERE decision_id<=? ORDER BY decision_id DESC LIMIT 2", (decision_id,)
            )
        )
        return bool(rows) and _sound_body(rows[0], rows[1]["digest"] if len(rows) > 1 else "") is not None

    def _decision_faults(self, scores_of: int | None) -> Iterator[str]:
        previous, known = "", dict[str, str]()
        for row in self._connections.db.query("SELECT * FROM decisions ORDER BY decision_id"):
            body = _sound_body(row, previous)
            previous = row["digest"]
            if body is None:
                yield f"decision {row['decision_id']}: the chain is broken here"
                continue
            if scores_of not in (None, row["decision_id"]):
                continue
            for subject, card in body.get("evidence", {}).items():
                for key, digest in card["scores"]:
                    if key not in known:
                        known[key] = score_digest(found) if (found := self._scores.find(key)) else ""
                    if known[key] != digest:
                        fault = score_fault(key, digest, self._scores.find(key))
                        yield f"decision {row['decision_id']}: {subject}'s {fault}"

    def _promotion_faults(self) -> Iterator[str]:
        previous = ""
        for number, digest, *said in self._connections.db.execute(
            "SELECT promotion_id, digest, kind, adapter_digest, base_digest, decision_id, actor, reason, at, version,"
            " percent FROM promotions ORDER BY promotion_id"
        ).fetchall():
            if digest != promotion_digest(previous, said):
                yield f"promotion {number}: the chain is broken here"
            previous = digest

    def _dangling(self) -> Iterator[str]:
        """The end of a chain can be cut off without breaking it: then a run or the audit names a row that is gone."""
        db = self._connections.db
        runs = "SELECT run_id, decision_id FROM runs WHERE decision_id IS NOT NULL AND decision_id NOT IN (SELECT decision_id FROM decisions)"
        yield from (f"run {run}: its decision {decision} is gone" for run, decision in db.execute(runs).fetchall())
        audit = (
            "SELECT at, action, json_extract(detail, '$.promotion_id') AS made FROM audit"
            " WHERE action IN ('promote', 'rollback') AND made NOT IN (SELECT promotion_id FROM promotions)"
        )
        yield from (
            f"promotion {made}: the {action} of {at} is gone" for at, action, made in db.execute(audit).fetchall()
        )


def _sound_body(row: dict[str, Any], previous: str) -> dict[str, Any] | None:
    """The body of a decision's row if it is as it was written behind `previous`."""
    try:
        body: dict[str, Any] = json.loads(row["body"])
        made = (row["actor"], row["at"]) if row["form"] == 2 else ()
        sound = row["previous"] == previous and row["digest"] == decision_digest(body, previous, row["run_id"], *made)
        return body if sound and body["verdict"] == row["verdict"] else None
    except (ValueError, TypeError, KeyError):
        return None


def decision_digest(body: dict[str, Any], previous: str, run_id: int | None, *made: str) -> str:
    """The link of the chain; `made` is (actor, at). Source: any hash chain; NaN is refused by the canonical JSON."""
    return digest_of([previous, run_id, *made, json.loads(json.dumps(body))])


def promotion_digest(previous: str, said: Sequence[Any]) -> str:
    """The link of the chain; what the engine's canary said comes later and is no part of it.

    `said` ends with the version and the per cent; those of everybody are left out, as in rows that are older than shares.
    """
    *row, percent = said
    return digest_of([previous, *row] if percent == 100 else [previous, *said])


def decision_from(body: dict[str, Any]) -> Decision:
    comparisons = tuple(Comparison(**c) for c in body["comparisons"])
    return Decision(**{**body, "reasons": tuple(body["reasons"]), "comparisons": comparisons})
