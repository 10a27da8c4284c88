"""Where a candidate comes from: what it was trained on, by which settings, and who judged it when.

Knows a dataset's manifest, a recipe and the ledger; says them as (name, text) for every face alike.
"""

from collections.abc import Mapping
from typing import Any

from storage.ledger import Ledger
from storage.records import Decision, Run
from storage.standing import decided_by


def data_card(manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """The dataset in a few lines, from its manifest; empty when that is not in the ledger."""
    if not manifest:
        return {}
    train, holdout = manifest["train"], manifest["holdout"]
    return {
        "training rows": f"{train['rows']} ({_counts(train['by']['source'])})",
        "holdout rows": f"{holdout['rows']} from {holdout['conversations']} conversations",
        "left out": _counts(manifest["dropped"]),
        "redacted": _counts(manifest["redacted"]),
    }


def provenance(ledger: Ledger, run: Run, decision: Decision, recipe: Mapping[str, Any]) -> dict[str, str]:
    """Digests, recipe, seed and policy in full, who asked and who decided, each with its time."""
    actor, at = decided_by(ledger.connections, run.decision_id or 0)
    return {
        "base": decision.base_digest,
        "candidate": decision.candidate_digest,
        "champion": decision.champion_digest or "none",
        "dataset": run.dataset_digest or "none",
        "suite": str(decision.policy.get("suite_digest", "")),
        "recipe": _settings(recipe) or "unknown",
        "seed": str(recipe.get("seed", "unknown")),
        "policy": _settings({name: value for name, value in decision.policy.items() if name != "suite_digest"}),
        "asked": f"{run.requested_at.isoformat(timespec='minutes')} by {run.requested_by}",
        "decided": f"{at.isoformat(timespec='minutes')} by {actor}",
    }


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"


def _settings(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    """A number short, a list of pairs (must_gain) as benchmark/metric."""
    if isinstance(value, list | tuple):
        return ",".join("/".join(map(str, pair)) if isinstance(pair, list | tuple) else str(pair) for pair in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
