"""How a decision's candidate stands now: waiting for a person's word, live, kept out, or overtaken.

Promise: derived from what is in the ledger, so that a card drawn again says the same whoever draws it.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from storage.clock import from_text
from storage.database import Connections

KEPT = "keep_current"  # the audit's word for a candidate that an admin let pass
State = Literal["waiting", "live", "kept", "void", "moved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`live`: it was promoted as v`version`, and `serves` while no other took its place. `kept`: `by` chose the champion. `void`: `run_id` was decided since.
    `moved`: another champion serves than the one it was compared with.
    """

    state: State
    by: str = ""
    at: datetime | None = None
    version: int = 0
    run_id: int = 0
    serves: bool = False


def standing(connections: Connections, decision_id: int) -> Standing:
    """Of a PROMOTE decision. Its promotion counts first, then an admin's word, then what happened since."""
    db = connections.db
    made = db.execute(
        "SELECT actor, at, version, adapter_digest FROM promotions WHERE decision_id=? ORDER BY promotion_id DESC LIMIT 1",
        (decision_id,),
    ).fetchone()
    last = db.execute(
        "SELECT adapter_digest, base_digest FROM promotions ORDER BY promotion_id DESC LIMIT 1"
    ).fetchone()
    serving, base = last or (None, None)
    if made:
        return Standing(state="live", by=made[0], at=from_text(made[1]), version=made[2], serves=made[3] == serving)
    kept = db.execute(
        "SELECT actor, at FROM audit WHERE action=? AND json_extract(detail, '$.decision_id')=? ORDER BY audit_id LIMIT 1",
        (KEPT, decision_id),
    ).fetchone()
    if kept:
        return Standing(state="kept", by=kept[0], at=from_text(kept[1]))
    if newer := overtaken_by(connections, decision_id):
        return Standing(state="void", run_id=newer[0])
    judged = db.execute("SELECT body FROM decisions WHERE decision_id=?", (decision_id,)).fetchone()
    if judged and _moved(json.loads(judged[0]), serving, base):
        return Standing(state="moved")
    return Standing(state="waiting")


def _moved(decision: dict[str, Any], serving: str | None, base: str | None) -> bool:
    """Whether another than its champion serves; an adapter of another base is nobody to compare with."""
    return bool(decision["champion_digest"] != (serving if base == decision["base_digest"] else None))


def overtaken_by(connections: Connections, decision_id: int) -> tuple[int, str] | None:
    """(run, verdict) of the newest run that has ended with a later decision; None while this one is the last word."""
    found = connections.db.execute(
        "SELECT r.run_id, d.verdict FROM decisions d JOIN runs r ON r.decision_id = d.decision_id"
        " WHERE d.decision_id > ? AND r.state='decided' ORDER BY d.decision_id DESC LIMIT 1",
        (decision_id,),
    ).fetchone()
    return None if found is None else (int(found[0]), str(found[1]))


def decided_by(connections: Connections, decision_id: int) -> tuple[str, datetime]:
    """Who made a decision, and when. Raises TypeError when there is no such decision."""
    actor, at = connections.db.execute("SELECT actor, at FROM decisions WHERE decision_id=?", (decision_id,)).fetchone()
    return str(actor), from_text(at)


def run_at(connections: Connections, channel: str, message_ts: str) -> int | None:
    """The run whose card is this Slack message."""
    found = connections.db.execute(
        "SELECT run_id FROM runs WHERE channel=? AND message_ts=?", (channel, message_ts)
    ).fetchone()
    return None if found is None else int(found[0])
