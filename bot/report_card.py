"""A run as Slack blocks: the live progress message and, at the end, the report card in its place.

Pure: reads records and the report's view, returns blocks. Knows no ledger.
"""

from typing import Any

from bot.answer_view import Part, context, section
from bot.outlook import dry_run_lines
from bot.safe_text import escape
from storage.records import Decision, Run

APPROVE_ACTION = "evenkeel_approve"
CANCEL_ACTION = "evenkeel_cancel_run"
ICONS = {"PROMOTE": "✅", "REFUSE": "⛔", "HOLD": "✋"}
BAR = 20
TABLE_CHARACTERS = 2_800


def progress(run: Run) -> Part:
    """How far a live run is: `run.progress` in words and a bar."""
    p = run.progress
    head = f"*Run {run.run_id}*, asked by {_who(run)}"
    if not p:
        return _live(run, head, "_Queued: waiting for the worker._")
    stage = (
        f"Stage {p['stage_no']} of {p['stages']}: {p.get('stage', '')}"
        if p.get("stages")
        else str(p.get("stage", run.state))
    )
    lines = [f"*{escape(stage)}*", *([bar(p["done"], p["total"], str(p.get("unit") or ""))] if p.get("total") else [])]
    facts = [
        *([f"loss {p['loss']:.3f}"] if p.get("loss") is not None else []),
        *([f"{p['tokens_per_s']:.0f} tokens/s"] if p.get("tokens_per_s") else []),
        *([f"about {duration(p['eta_s'])} left"] if p.get("eta_s") else []),
    ]
    text = escape(str(p.get("text") or ""))
    stopping = ["_Cancelling …_"] if run.cancel_requested else []
    return _live(run, head, *lines, *([" · ".join(facts)] if facts else []), *([text] if text else []), *stopping)


def _live(run: Run, *lines: str) -> Part:
    """The lines with the button that stops the run, until somebody has pressed it."""
    card = _card(*lines)
    return card if run.cancel_requested else Part(text=card.text, blocks=(*card.blocks, cancelling(run)))


def cancelling(run: Run) -> dict[str, Any]:
    button = {
        "type": "button",
        "action_id": CANCEL_ACTION,
        "text": {"type": "plain_text", "text": "Cancel"},
        "value": str(run.run_id),
        "confirm": {
            "title": {"type": "plain_text", "text": "Cancel this run?"},
            "text": {"type": "plain_text", "text": "What it has trained is thrown away. The model that serves stays."},
            "confirm": {"type": "plain_text", "text": "Cancel the run"},
            "deny": {"type": "plain_text", "text": "Let it go on"},
        },
    }
    return {"type": "actions", "block_id": CANCEL_ACTION, "elements": [button]}


def bar(done: float, total: float, unit: str) -> str:
    share = min(1.0, max(0.0, done / total))
    full = round(BAR * share)
    return f"`{'█' * full}{'░' * (BAR - full)}` {share:.0%}  {done:g} of {total:g} {escape(unit)}".rstrip()


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def ended(run: Run) -> Part:
    """A run without a report: failed, cancelled, or decided with nothing to show."""
    head = f"*Run {run.run_id}*, asked by {_who(run)}"
    if run.state == "failed":
        return _card(
            head,
            f"*Failed*: {escape(run.error) or 'no reason was recorded'}",
            "_The model that serves stays as it was._",
        )
    if run.state == "cancelled":
        return _card(head, "*Cancelled.* _The model that serves stays as it was._")
    if found := dry_run_lines(run):
        return _card(head, *found)
    return _card(head, "*Decided*, but its report could not be read. `evenkeel report` on the server may have more.")


def report(run: Run, view: dict[str, Any], decision: Decision, *, live_as: int | None) -> Part:
    """The report card: verdict in words, reasons, table; a button when the candidate waits for an admin."""
    icon, verdict = ICONS[decision.verdict], decision.verdict
    head = f"{icon} Run {run.run_id}: {verdict}"
    reasons = "\n".join(f"• {escape(reason)}" for reason in decision.reasons)[:2_500]
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": head}},
        section(f"*{escape(str(view.get('meaning', '')))}*\n{reasons}"),
        section(table(view.get("rows") or [])),
        context(
            f"Candidate {escape(str(view.get('candidate', '')))} · champion until then {escape(str(view.get('champion', '')))}"
            f" · asked by {_who(run)}{_data(view)}"
        ),
    ]
    if verdict == "PROMOTE":
        blocks += [section(f"*v{live_as} is live.*")] if live_as else approval(run, decision)
    return Part(
        text=f"{head}. {decision.reasons[0] if decision.reasons else ''}"[:1_000].replace("<", "‹"),
        blocks=tuple(blocks),
    )


def approval(run: Run, decision: Decision) -> list[dict[str, Any]]:
    """The button, bound to this decision and this candidate."""
    button = {
        "type": "button",
        "action_id": APPROVE_ACTION,
        "style": "primary",
        "text": {"type": "plain_text", "text": "Approve"},
        "value": f"{run.decision_id}:{decision.candidate_digest}",
        "confirm": {
            "title": {"type": "plain_text", "text": "Go live?"},
            "confirm": {"type": "plain_text", "text": "Approve"},
            "text": {"type": "plain_text", "text": "The candidate answers every new question from now on."},
            "deny": {"type": "plain_text", "text": "Not yet"},
        },
    }
    return [
        section("It waits for an admin's word."),
        {"type": "actions", "block_id": APPROVE_ACTION, "elements": [button]},
    ]


def approved(blocks: list[dict[str, Any]], who: str, version: str) -> list[dict[str, Any]]:
    """The same card after the click: the button is gone and a name stands in its place."""
    kept = [b for b in blocks if b.get("block_id") != APPROVE_ACTION and "waits for an admin" not in str(b.get("text"))]
    return [*kept, section(f"*{version} is live*, approved by <@{who}>.")]


def table(rows: list[dict[str, Any]]) -> str:
    """The comparisons that decide as aligned text, as many as fit into one section; the page has all."""
    names = ("name", "against", "reference_text", "candidate_text", "gain_text", "margin_text", "said")
    titles = ("benchmark", "against", "before", "after", "gain", "tolerated", "")
    deciding = [row for row in rows if row.get("gates")]
    cells = [titles, *(tuple(_cell(row.get(name)) for name in names) for row in deciding)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(names))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    shown: list[str] = []
    for line in lines:
        if sum(len(escape(x)) + 1 for x in (*shown, line)) > TABLE_CHARACTERS:
            return (
                "```\n" + "\n".join(shown) + f"\n```\n_{len(lines) - len(shown)} more rows are on the report's page._"
            )
        shown.append(escape(line))
    return "```\n" + "\n".join(shown) + "\n```"


def _cell(value: Any) -> str:
    return str("" if value is None else value).replace("`", "'")[:34]


def _data(view: dict[str, Any]) -> str:
    data = view.get("data") or {}
    rows = data.get("train_rows", data.get("rows"))
    return f" · {rows} training rows" if isinstance(rows, int) else ""


def _who(run: Run) -> str:
    return (
        f"<@{run.requested_by}>"
        if run.requested_by[:1] in "UW" and run.requested_by.isalnum()
        else escape(run.requested_by)
    )


def _card(*lines: str) -> Part:
    return Part(text=lines[0].replace("*", ""), blocks=(section("\n".join(lines)[:3_000]),))
