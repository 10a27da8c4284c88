"""The App Home: what each kind of person needs to see. Reads the ledger, returns a view."""

from typing import Any

from bot.answer_view import context, section
from bot.commands import name_of
from bot.safe_text import escape
from storage.ledger import Ledger
from storage.records import RaterRole, Run
from storage.settings import Settings

CUSTOMER = (
    "*Hello! I answer support questions.*\nMention me in a channel or write to me here. I answer in the thread, "
    "and you can go on asking there without a mention.\nRate an answer with 👍 or 👎: the team looks at both."
)
AGENT = (
    "*For agents*\n👍 on a good answer lets it become a lesson. After a 👎 I offer you a form for a better answer; "
    "what you write there teaches me most."
)


def home(role: RaterRole, ledger: Ledger, settings: Settings) -> dict[str, Any]:
    """The view for this role. Customers see no numbers."""
    blocks = [section(CUSTOMER)]
    if role in ("agent", "admin"):
        blocks += [{"type": "divider"}, section(AGENT), section(_opinion(ledger)), section(_lessons(ledger, settings))]
    if role == "admin":
        blocks += [
            {"type": "divider"},
            section(_model(ledger)),
            section(_runs(ledger)),
            context("`/retrain` starts a run, `/model` lists versions and rolls back."),
        ]
    return {"type": "home", "blocks": blocks}


def share(up: int, down: int) -> str:
    return f"{up / (up + down):.0%} 👍 (n = {up + down})" if up + down else "no ratings yet"


def _opinion(ledger: Ledger) -> str:
    counts = ledger.ratings.counts()

    def of(*roles: str) -> str:
        return share(sum(counts.get(f"{r}:up", 0) for r in roles), sum(counts.get(f"{r}:down", 0) for r in roles))

    return f"*Ratings*\nAgents: {of('agent', 'admin')}\nCustomers: {of('customer', 'unknown')}"


def _lessons(ledger: Ledger, settings: Settings) -> str:
    new, wanted = ledger.lessons.count_since_last_run(), settings.retrain_after_lessons
    until = f"{new} of {wanted}: at {wanted} a run starts by itself" if wanted else f"{new}"
    learning = "" if settings.learn_from_slack else "\n_LEARN_FROM_SLACK is off: only imported tickets are trained on._"
    return f"*New lessons since the last run*\n{until}{learning}"


def _model(ledger: Ledger) -> str:
    champion = ledger.promotions.champion()
    if champion is None:
        serving = "The base model answers; nothing was promoted yet."
    else:
        state = {"": "not confirmed by the engine yet", "ok": "confirmed by the engine"}.get(
            champion.confirmed, f"refused by the engine: {escape(champion.confirmed)}"
        )
        serving = f"{name_of(champion)} answers since {champion.at:%Y-%m-%d %H:%M} UTC ({state})."
    covered, answered = ledger.exchanges.shadow_coverage()
    coverage = f"{covered} of {answered} answers have the base's beside them" if answered else "no answers yet"
    return f"*Champion*\n{serving}\n*Shadow*\n{coverage}"


def _runs(ledger: Ledger) -> str:
    lines = [_line(run, ledger) for run in ledger.runs.recent(5)]
    return "*Last runs*\n" + ("\n".join(lines) or "none yet")


def _line(run: Run, ledger: Ledger) -> str:
    decision = ledger.promotions.decision(run.decision_id) if run.decision_id else None
    outcome = decision.verdict if decision else run.state
    why = escape((decision.reasons[0] if decision and decision.reasons else run.error)[:150])
    return f"• Run {run.run_id}, {run.requested_at:%Y-%m-%d %H:%M} UTC: {outcome}{': ' + why if why else ''}"
