"""The report card: one function reads the ledger into a view; terminal, Slack, HTML and markdown are faces of it.

Knows the ledger and how numbers are said. Knows nothing of Slack or of terminals.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from eval.budget import budget_lines
from eval.candidates import champions, points
from eval.comparing import UNMEASURED
from eval.doubt import sentence
from eval.looks import courses
from eval.moved import moved, regressions, texts
from eval.picture import draw
from eval.provenance import data_card, provenance
from eval.quoting import in_markdown, quoted
from eval.turning import what_would_change
from eval.wording import amount, figure, title
from storage.digests import short
from storage.errors import UsageError
from storage.ledger import Ledger
from storage.records import Comparison, Decision, Run

VERDICTS = {
    "PROMOTE": "better at support, and nothing else that matters got worse",
    "REFUSE": "it lost something that it must keep",
    "HOLD": "not proven, so nothing changes",
}
STATES = {"gain": "gained", "kept": "kept", "undecided": "undecided", "lost": "lost", "unknown": "unknown"}


def publish(ledger: Ledger, run_id: int, folder: Path) -> Path:
    """Write report.html, report.md and gain_loss.png of a decided run, note them in the ledger, return the page.

    Raises UsageError when the run has no decision.
    """
    shown = view(ledger, run_id)
    target = folder / f"run-{run_id}"
    target.mkdir(parents=True, exist_ok=True)
    templates = Environment(
        loader=PackageLoader("eval"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"quoted": quoted, "in_markdown": in_markdown, "texts": texts}
    for name in ("report.html", "report.md"):
        (target / name).write_text(templates.get_template(f"{name}.j2").render(view=shown), encoding="utf-8")
    picture = draw(shown["points"], shown["path"], target / "gain_loss.png")
    page = target / "report.html"
    ledger.add_report(run_id, shown, html_path=str(page.absolute()), png_path=str(picture.absolute()))
    return page


def view(ledger: Ledger, run_id: int) -> dict[str, Any]:
    """All that a report card shows, as plain JSON. Raises UsageError when the run has no decision."""
    run = ledger.runs.get(run_id)
    decision = ledger.promotions.decision(run.decision_id) if run and run.decision_id else None
    if run is None or decision is None:
        raise UsageError(f"run {run_id} has no decision to report. Next: evenkeel runs.")
    adapter = ledger.lessons.adapter(decision.candidate_digest)
    doubt = ledger.doubt.of(decision.base_digest, decision.candidate_digest)
    items = moved(ledger, run, decision)
    manifest = ledger.lessons.dataset_manifest(run.dataset_digest) if run.dataset_digest else None
    candidates, recipe = points(ledger, run_id), adapter.recipe if adapter else {}
    return {
        "run_id": run_id,
        "verdict": decision.verdict,
        "meaning": VERDICTS[decision.verdict],
        "headline": headline(decision),
        "reasons": list(decision.reasons),
        "doubt": f"The candidate {sentence(doubt)}." if doubt else "",
        "rows": [row(c) for c in decision.comparisons if c.note != UNMEASURED],
        "unmeasured": unmeasured(decision),
        "budget": budget_lines(ledger, decision),
        "courses": courses(ledger, run, decision),
        "points": candidates,
        "path": champions(candidates, decision.base_digest),
        "would_change": what_would_change(decision),
        "items": items,
        "regressions": regressions(items["lost"]),
        "candidate": short(decision.candidate_digest),
        "champion": short(decision.champion_digest),
        "candidate_digest": decision.candidate_digest,
        "decision_id": run.decision_id,
        "requested_by": run.requested_by,
        "requested_at": run.requested_at.isoformat(timespec="minutes"),
        "recipe": recipe,
        "training": _training(adapter.stats if adapter else {}),
        "stages": _stages(ledger, run),
        "data": manifest,
        "data_card": data_card(manifest),
        "policy": decision.policy,
        "provenance": provenance(ledger, run, decision, recipe),
    }


def headline(decision: Decision) -> str:
    """The verdict in one sentence."""
    return f"Candidate {short(decision.candidate_digest)}: {decision.verdict} — {VERDICTS[decision.verdict]}"


def row(c: Comparison) -> dict[str, Any]:
    """One line of the table: the comparison's data and how it is said. `size` is the gain in margins, cut to ±3."""
    known = c.state != "unknown"
    return asdict(c) | {
        "name": title(c.benchmark, c.metric),
        "said": STATES[c.state] if c.gates else "shown only",
        "reference_text": figure(c.reference, c) if known else "–",
        "candidate_text": figure(c.candidate, c) if known else "–",
        "gain_text": signed(c.gain, c) if known else "–",
        "low_text": signed(c.low, c) if known else "–",
        "interval_text": f"{signed(c.low, c)} … {signed(c.high, c)}" if known else "–",
        "margin_text": narrow(amount(c.margin, c)) if c.margin else "must gain",
        "supports_text": narrow(amount(c.supports, c)) if known and c.supports is not None else "–",
    }


def unmeasured(decision: Decision) -> str:
    """What a trial that ended early never asked, as a sentence; nothing where all was asked."""
    left = [c for c in decision.comparisons if c.note == UNMEASURED]
    names = [
        title(c.benchmark, c.metric) + (" vs champion" if c.against == "champion" else "") for c in left if c.gates
    ]
    return (
        f"Not measured on the candidate: {', '.join(names)}; and {len(left) - len(names)} that are only shown."
        if left
        else ""
    )


def signed(value: float, c: Comparison) -> str:
    return f"{'+' if value >= 0 else '−'}{narrow(amount(abs(value), c))}"


def narrow(text: str) -> str:
    """For table cells."""
    return text.replace(" points", " pt")


def _training(stats: dict[str, Any]) -> dict[str, Any]:
    kept = ("tokens", "seconds", "tokens_per_s", "final_loss", "steps", "rows_dropped")
    return {name: stats[name] for name in kept if name in stats}


def _stages(ledger: Ledger, run: Run) -> list[dict[str, Any]]:
    return [{"stage": note["stage"], "text": note["text"]} for note in ledger.runs.history(run.run_id)]
