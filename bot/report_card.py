"""A run as Slack blocks: the live progress message and, at the end, the report card in its place.

Pure: reads records and the report's view, returns blocks. Knows no ledger.
"""

from collections.abc import Sequence
from typing import Any

from bot.answer_view import Part, button, context, section
from bot.figures import cells, dearest, gains, table
from bot.outlook import dry_run_lines
from bot.safe_text import escape, person, printable, who
from storage.records import Decision, Run
from storage.standing import Standing

APPROVE_ACTION, KEEP_ACTION, TRY_ACTION = "evenkeel_approve", "evenkeel_keep", "evenkeel_try"
CANCEL_ACTION = "evenkeel_cancel_run"
ICONS = {"PROMOTE": "✅", "REFUSE": "⛔", "HOLD": "✋"}
BAR = 20
MANY = 10_000  # steps of work that no person counts
TURNS, LINE = 2, 400  # lines of what would change the verdict, and characters of one


def progress(run: Run) -> Part:
    """How far a live run is: `run.progress` in words and a bar."""
    p = run.progress
    head = f"*Run {run.run_id}*, asked by {who(run.requested_by)}"
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
    lost = "What it has trained is thrown away. The model that serves stays."
    sure = _confirm("Cancel this run?", lost, "Cancel the run", "Let it go on")
    stop = button("Cancel", CANCEL_ACTION, str(run.run_id), confirm=sure)
    return {"type": "actions", "block_id": CANCEL_ACTION, "elements": [stop]}


def bar(done: float, total: float, unit: str) -> str:
    share = min(1.0, max(0.0, done / total))
    full = round(BAR * share)
    counted = f"  {done:g} of {total:g} {escape(unit)}".rstrip() if total < MANY else ""
    return f"`{'█' * full}{'░' * (BAR - full)}` {share:.0%}{counted}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def ended(run: Run) -> Part:
    """A run without a report: failed, cancelled, or decided with nothing to show."""
    head = f"*Run {run.run_id}*, asked by {who(run.requested_by)}"
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


def report(run: Run, view: dict[str, Any], decision: Decision, standing: Standing | None) -> tuple[Part, ...]:
    """The report card: verdict in words, reasons, what would change it, table, charts, the forgetting budget, what moved;
    buttons while the candidate waits for an admin.

    Several forms, the richest first: where Slack refuses one for its looks, the next says the same more plainly.
    """
    verdict = decision.verdict
    head = f"{ICONS[verdict]} Run {run.run_id}: {verdict}"
    reasons = "\n".join(f"• {escape(reason)}" for reason in decision.reasons)[:2_500]
    doubt = f"\n_{escape(str(view['doubt'])[:300])}_" if view.get("doubt") else ""
    rows = view.get("rows") or []
    top = (
        {"type": "header", "text": {"type": "plain_text", "text": head}},
        section(f"*{escape(str(view.get('meaning', '')))}*\n{reasons}{doubt}"),
        *_turns(view.get("would_change") or []),
    )
    facts = [*_budget(view.get("budget") or []), *_moved(view.get("items") or {}), _footer(run, view)]
    foot = (context("\n".join(facts)), *(verdict_of(run, decision, standing) if standing else ()))
    charts = tuple(c for c in (gains(view.get("points") or []), dearest(rows)) if c)
    text = f"{head}. {decision.reasons[0] if decision.reasons else ''}"[:1_000].replace("<", "‹")
    middles = ((cells(rows), *charts), (cells(rows),), (section(table(rows)),))
    plain = Part(text=f"{text}\n{_footer(run, view)}"[:3_900], blocks=())
    return (*(Part(text=text, blocks=(*top, *middle, *foot)) for middle in middles), plain)


def verdict_of(run: Run, decision: Decision, standing: Standing) -> tuple[dict[str, Any], ...]:
    """What became of a candidate that may go live, or the buttons that decide it."""
    when = f" at {standing.at:%Y-%m-%d %H:%M} UTC" if standing.at else ""
    match standing.state:
        case "waiting":
            return (section("It waits for an admin's word."), approval(run, decision))
        case "live":
            by = f", approved by {who(standing.by)}" if person(standing.by) else ""
            gone = "" if standing.serves else " It does not serve any more."
            said = f"*v{standing.version} {'is' if standing.serves else 'went'} live*{by}{when}.{gone}"
        case "kept":
            said = f"*The current model stays*: decided by {who(standing.by)}{when}."
        case "void":
            said = f"*Void*: run {standing.run_id} was decided since, so this candidate can no longer be approved."
        case _:
            said = "*Void*: another model serves than the one it was compared with. Next: `/retrain`."
    return (section(said),)


def approval(run: Run, decision: Decision) -> dict[str, Any]:
    """The buttons, bound to this decision and this candidate."""
    value = f"{run.decision_id}:{decision.candidate_digest}"
    live = _confirm("Go live?", "The candidate answers every new question from now on.", "Approve", "Not yet")
    keep = _confirm("Keep the current model?", "This candidate will not go live.", "Keep current", "Not yet")
    return {
        "type": "actions",
        "block_id": APPROVE_ACTION,
        "elements": [
            button("Approve", APPROVE_ACTION, value, style="primary", confirm=live),
            button("Keep current", KEEP_ACTION, value, confirm=keep),
            button("Try ten questions", TRY_ACTION, value),
        ],
    }


def _confirm(title: str, text: str, yes: str, no: str) -> dict[str, Any]:
    parts = {"title": title, "text": text, "confirm": yes, "deny": no}
    return {name: {"type": "plain_text", "text": said} for name, said in parts.items()}


def regressions(run: Run, found: Sequence[dict[str, Any]]) -> Part:
    """The items that lost most, as one message."""
    lines = []
    for number, loss in enumerate(found, start=1):
        name = escape(f"{loss.get('benchmark', '')}, {loss.get('item_id', '')}"[:150])
        text = f"\n> {escape(printable(str(loss['text'])).replace(chr(10), ' ')[:300])}" if loss.get("text") else ""
        lines.append(f"{number}. *{name}*: {escape(str(loss.get('before')))} → {escape(str(loss.get('after')))}{text}")
    head = f"Run {run.run_id}: where it lost most, base → candidate"
    return Part(text=head, blocks=(section(f"*{head}*"), section("\n".join(lines)[:3_000])))


def _footer(run: Run, view: dict[str, Any]) -> str:
    return (
        f"Candidate {escape(str(view.get('candidate', '')))} · champion until then {escape(str(view.get('champion', '')))}"
        f" · asked by {who(run.requested_by)}{_data(view)}"
    )


def _data(view: dict[str, Any]) -> str:
    rows = ((view.get("data") or {}).get("train") or {}).get("rows")
    return f" · {rows} training rows" if isinstance(rows, int) else ""


def _turns(lines: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """What would change the verdict, as a section; none where nothing is known."""
    shown = [f"• {escape(str(line)[:LINE])}" for line in lines[:TURNS]]
    more = [f"_{len(lines) - TURNS} more on the report's page._"] if len(lines) > TURNS else []
    return (section("\n".join(["*What would change the verdict*", *shown, *more])),) if shown else ()


def _budget(lines: Sequence[str]) -> list[str]:
    """What of the forgetting budget is spent, by this candidate and by the champions before it, as one line."""
    return [escape(" ".join(map(str, lines))[:LINE])] if lines else []


def _moved(items: dict[str, Any]) -> list[str]:
    """How many items were lost and gained, and the largest of each: names and numbers, nobody's words."""
    largest = [_move(how, items[how][0]) for how in ("lost", "gained") if items.get(how)]
    return [*([escape(str(items["said"]))] if items.get("said") else []), *largest]


def _move(how: str, item: dict[str, Any]) -> str:
    name = f"{item.get('benchmark', '')}, {item.get('item_id', '')}"[:150]
    return escape(f"{how.capitalize()} most: {name}: {item.get('before')} → {item.get('after')}")


def _card(*lines: str) -> Part:
    return Part(text=lines[0].replace("*", ""), blocks=(section("\n".join(lines)[:3_000]),))
