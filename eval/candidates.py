"""Every candidate so far as a point of gain against loss, and the path of the champions through them.

Knows decisions and promotions; draws nothing.
"""

from collections.abc import Sequence
from typing import Any

from storage.ledger import Ledger
from storage.records import Decision

# {"run_id", "verdict", "version", "base", "gain", "loss", "now", "past": an earlier champion, from which the path goes on
# to the right, so that its label stands above; how they are said: "gain_text", "loss_text", "label"}
Point = dict[str, Any]


def points(ledger: Ledger, until_run: int) -> list[Point]:
    """Every candidate so far as (gain on target in per cent of base, worst general loss in margins)."""
    found = list[Point]()
    versions = {p.decision_id: p.version for p in ledger.promotions.history() if p.kind == "promote"}
    for run in reversed(ledger.runs.recent(200)):
        decision = ledger.promotions.decision(run.decision_id) if run.decision_id else None
        if decision is None or run.run_id > until_run:
            continue
        gain, loss = gain_and_loss(decision)
        if gain is not None and loss is not None:
            version, now = versions.get(run.decision_id), run.run_id == until_run
            point = {
                "run_id": run.run_id,
                "verdict": decision.verdict,
                "version": version,
                "base": decision.base_digest,
                "gain": gain,
                "loss": loss,
                "now": now,
                "past": bool(version) and not now,
            }
            found.append(point | _said(point))
    return found


def _said(point: Point) -> dict[str, str]:
    """How a point is said; in a crowd, an earlier champion's version is label enough."""
    version, run = f"v{point['version']}" if point["version"] else "", f"run {point['run_id']} · {point['verdict']}"
    return {
        "gain_text": f"{point['gain']:+.1f} %".replace("-", "−"),
        "loss_text": f"{point['loss']:.2f} margins" if point["loss"] > 0 else "nothing",
        "label": version if point["past"] else " · ".join(filter(None, (version, run))),
    }


def gain_and_loss(decision: Decision) -> tuple[float | None, float | None]:
    """The target's gain in per cent of the base, and the largest general loss as a multiple of its margin (negative:
    everything gained). None where nothing is known.
    """
    wanted = {tuple(pair) for pair in decision.policy.get("must_gain", [])}
    known = [c for c in decision.comparisons if c.state != "unknown" and c.gates and c.against == "base"]
    target = next((c for c in known if (c.benchmark, c.metric) in wanted), None)
    losses = [-c.gain / c.margin for c in known if c.domain == "general" and c.margin]
    gain = 100 * target.gain / target.reference if target and target.reference else None
    return gain, max(losses) if losses else None


def champions(found: Sequence[Point], base_digest: str) -> list[Point]:
    """The promoted candidates of this base in the order of their versions; empty below two, which make no path."""
    path = sorted((p for p in found if p["version"] and p["base"] == base_digest), key=lambda p: int(p["version"]))
    return path if len(path) > 1 else []
