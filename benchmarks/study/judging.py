"""The gate as a real run judges: training/steps.py scores, eval/gate.py decides, in a ledger of the room.

Each adapter is a run of its own, dealt the next hand of items; nothing is promoted, so each is judged against the base
alone. A run that was cut off is found again in the ledger and goes on with what it had measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.study.truth import cost_of
from eval.gate import decide_on
from eval.policy import policy_from
from storage.digests import digest_of
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.records import Adapter, Dataset, Score
from storage.settings import Settings
from training.dataset import save_dataset
from training.steps import score_step

Key = tuple[str, str, str]  # adapter, benchmark, metric


def judged(settings: Settings, base: Path, dataset: Dataset, adapter: Adapter) -> dict[str, Any]:
    """Verdict, reasons, whether it stopped early, and what was measured for it: items and seconds of both sides.

    What the base is known to score on an earlier run's items costs nothing, as in a real installation.
    """
    ledger = Ledger(settings.ledger_path)
    try:
        run_id, after = begun(ledger, adapter.digest)
        job = {
            "settings": settings.model_dump(mode="json"),
            "dataset": str(save_dataset(dataset, settings.datasets_dir)),
            "base": str(base),
            "run_id": run_id,
            "subjects": [("base", None), ("candidate", adapter.digest)],
            "looks": 1,
        }
        score_step(job, lambda _: None)
        cards = ledger.scores.cards(run_id, ("base", "candidate", "again"))
        if not cards.keys() >= {"base", "candidate"}:
            raise EvenkeelError(f"run {run_id} has no scorecards in {settings.ledger_path}. Next: take a new --room.")
        decision = decide_on(cards, policy_from(settings))
        ledger.promotions.decide(decision, run_id=run_id, actor="gate")
        items, seconds = cost_of(measured_after(ledger, after))
        early = any("stopped early" in note["text"] for note in ledger.runs.history(run_id))
        ended(ledger)
    finally:
        ledger.close()
    return {"verdict": decision.verdict, "reasons": list(decision.reasons), "early": early, "items": items, "seconds": seconds}  # fmt: skip


def begun(ledger: Ledger, adapter: str) -> tuple[int, int]:
    """(run, last score before it) for this adapter: the one that was cut off, or a new one in place of another's."""
    active = ledger.runs.active()
    if active is not None and active.overrides["adapter"] != adapter:
        ledger.runs.cancel(active.run_id)
        active = None
    if active is not None:
        return active.run_id, int(active.overrides["after"])
    found = ledger.connections.db.execute("SELECT coalesce(max(rowid), 0) FROM scores").fetchone()
    after = int(found[0])
    origin: Mapping[str, Any] = {"adapter": adapter, "after": after}
    return ledger.runs.request(reason="cli", requested_by="study", overrides=origin), after


def ended(ledger: Ledger) -> None:
    run = ledger.runs.claim(owner="study", lease_s=1.0)
    if run is not None:
        ledger.runs.advance(run, state="decided", lease_s=1.0)


def measured_after(ledger: Ledger, after: int) -> list[Score]:
    """Scores that were measured since, without those that the final look only joined from two others; of a trial the last
    look alone, which has the items of those before."""
    rows = list(
        ledger.connections.db.query(
            "SELECT rowid, key, adapter_digest, benchmark, metric, look FROM scores ORDER BY look"
        )
    )
    groups: dict[Key, list[str]] = {}
    for row in rows:
        groups.setdefault((row["adapter_digest"] or "", row["benchmark"], row["metric"]), []).append(row["key"])
    joined = {digest_of([one, other]) for keys in groups.values() for one in keys for other in keys if one != other}
    new = [row for row in rows if row["rowid"] > after and row["key"] not in joined]
    last = {(row["adapter_digest"], row["benchmark"], row["metric"]): row["key"] for row in new if row["look"]}
    keys = [*(row["key"] for row in new if not row["look"]), *last.values()]
    return [score for key in keys if (score := ledger.scores.find(key)) is not None]
