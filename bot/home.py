"""The App Home: what each kind of person needs to see. Reads the ledger, returns a view.

Promise: customers see no numbers; nothing that people or models wrote can act here.
"""

from datetime import timedelta
from typing import Any

from bot.answer_view import actions, button, context, section
from bot.commands import name_of, sharing_text
from bot.corrections import TAKE_BACK_ACTION
from bot.privacy import FORGET_ACTION, PERSON_HOME_ACTION
from bot.reasons import REASONS
from bot.review import MAX_AGE_S
from bot.review_view import REVIEW_ACTION, rate_text
from bot.roles import TEAM
from bot.safe_text import escape, printable, who
from bot.shares import share
from storage.crontab import cron
from storage.errors import ConfigurationError
from storage.ledger import Ledger
from storage.overview import Trouble, disliked, trouble, votes_on
from storage.records import Promotion, RaterRole, Run
from storage.settings import Settings

HELLO = (
    "*Hello! I answer support questions.*\nMention me in a channel or write to me here. I answer in the thread, and you "
    "can go on asking there without a mention.\nRate an answer with 👍 or 👎: the team looks at both."
)
EXAMPLES = ("How do I reset my password?", "Where do I find my invoices?", "Wie ändere ich meine Adresse?")
AGENT = (
    "*For agents*\n👍 on a good answer lets it become a lesson. After a 👎 I offer you a form for a better answer; "
    "what you write there teaches me most."
)
RECENT, NOTED = timedelta(days=7), ("rollback", "alert")  # what the watch did or warned of stays an alert so long
LATE_S, NEWEST, ENOUGH = 60.0, 50, 0.9  # an open question is late; answers looked at; share of them with a shadow
Blocks = list[dict[str, Any]]


def home(role: RaterRole, ledger: Ledger, settings: Settings, *, user: str = "") -> dict[str, Any]:
    """The view for this person in this role."""
    blocks = [section(HELLO), *_examples()]
    if role in TEAM:
        blocks += [{"type": "divider"}, section(AGENT), *_agent(ledger, settings, user)]
    if role == "admin":
        blocks += [{"type": "divider"}, *_admin(ledger, settings)]
    return {"type": "home", "blocks": blocks}


def _examples() -> Blocks:
    lines = "\n".join(f"• _{escape(example)}_" for example in EXAMPLES)
    return [
        section(f"*For example*\n{lines}"),
        actions(
            button("Talk to a person", PERSON_HOME_ACTION, "home"),
            button("Delete my data", FORGET_ACTION, "home"),
        ),
    ]


# For agents


def _agent(ledger: Ledger, settings: Settings, user: str) -> Blocks:
    return [
        *_review(ledger, user),
        section(_impact(ledger, user)),
        *_written(ledger, user),
        section(_opinion(ledger)),
        section(_lessons(ledger, settings)),
        section(_disliked(ledger)),
    ]


def _review(ledger: Ledger, user: str) -> Blocks:
    """How many pairs wait for this person, and the way there."""
    waiting = len(ledger.picks.candidates(user, max_age_s=MAX_AGE_S))
    if not waiting:
        return [
            section(
                "*Review queue*\nNothing waits for you: a pair needs an answer of a trained version and the base's."
            )
        ]
    many = "one pair of answers waits" if waiting == 1 else f"{waiting} pairs of answers wait"
    return [section(f"*Review queue*\n{many} for you, ten at a time, about four minutes."), actions(_review_button())]


def _review_button() -> dict[str, Any]:
    return button("Review ten", REVIEW_ACTION, "home", style="primary")


def _written(ledger: Ledger, user: str) -> Blocks:
    """What this person wrote last, each with a way back."""
    blocks: Blocks = []
    for one in ledger.taught.of_author(user):
        state = " · replaced" if one.replaced else " · taken back" if one.removed else ""
        what = "correction" if one.kind == "correction" else "taught"
        line = section(f"• {escape(printable(one.question).replace(chr(10), ' ')[:80])} _({what}{state})_")
        back = {"accessory": button("Take back", TAKE_BACK_ACTION, f"{one.kind}:{one.number}")}
        blocks.append(line if state else {**line, **back})
    return [section("*Your lessons*"), *blocks] if blocks else []


def _impact(ledger: Ledger, user: str) -> str:
    """What became of this person's corrections in the version that serves."""
    champion = ledger.promotions.champion()
    if champion is None or champion.adapter_digest is None:
        return (
            "*What your corrections did*\nNo version serves yet. After the next promotion you see here which ones pass."
        )
    passed, checked = ledger.learned.of(user, champion.adapter_digest)
    name = name_of(champion)
    if not checked:
        return f"*What your corrections did*\nNone of yours was checked in {name} yet. The next run checks them."
    return f"*What your corrections did*\n{passed} of your last {checked} corrections pass in {name}."


def _lessons(ledger: Ledger, settings: Settings) -> str:
    learning = "" if settings.learn_from_slack else "\n_LEARN_FROM_SLACK is off: only imported tickets are trained on._"
    return f"*New lessons since the last run*\n{_counted(ledger, settings)}{learning}"


def _counted(ledger: Ledger, settings: Settings) -> str:
    new, wanted = (
        ledger.lessons.count_since_last_run(with_slack=settings.learn_from_slack),
        settings.retrain_after_lessons,
    )
    return f"{new} of {wanted} new lessons: at {wanted} a run starts by itself" if wanted else f"{new} new lessons"


def _disliked(ledger: Ledger) -> str:
    lines = [
        f"• {escape(printable(one.question).replace(chr(10), ' ')[:80])} · {one.down} 👎"
        + (f", {one.up} 👍: opinions differ" if one.up else "")
        for one in disliked(ledger.connections, limit=5)
    ]
    why = ", ".join(f"{REASONS[reason].lower()} {count}" for reason, count in ledger.taught.reasons().items())
    return "*Disliked lately*\n" + ("\n".join(lines) or "Nothing: no 👎 stands.") + (f"\n_Why: {why}_" if why else "")


# For admins


def _admin(ledger: Ledger, settings: Settings) -> Blocks:
    seen = trouble(ledger.connections, now=ledger.clock(), late_s=LATE_S, newest=NEWEST)
    alerts = _alerts(ledger, seen)
    return [
        section("*Alerts*\n" + ("\n".join(f"⚠️ {line}" for line in alerts) or "✅ Nothing needs you.")),
        section(_champion(ledger)),
        *_watch(ledger),
        section(f"*Shadow*\n{_coverage(seen)}"),
        section(f"*Next run*\n{_next_run(ledger, settings)}\n{_counted(ledger, settings)}"),
        section("*Last runs*\n" + ("\n".join(_run(run, ledger) for run in ledger.runs.recent(5)) or "none yet")),
        section("*Audit*\n" + ("\n".join(_audited(row) for row in ledger.audits(5)) or "empty")),
        context("`/retrain` starts a run, `/model` lists versions and rolls back."),
    ]


def _alerts(ledger: Ledger, seen: Trouble) -> list[str]:
    """One line for everything that somebody should look at."""
    champion, runs = ledger.promotions.champion(), ledger.runs.recent(1)
    found = []
    if runs and runs[0].state == "failed":
        found.append(f"Run {runs[0].run_id} failed: {escape(runs[0].error[:200])}")
    if refused := _refused(champion):
        found.append(refused)
    if seen.answered and seen.covered < ENOUGH * seen.answered:
        found.append(f"Only {seen.covered} of the last {seen.answered} answers have the base's beside them.")
    found += [escape(row.said[:300]) for row in ledger.watches.news(ledger.clock() - RECENT) if row.verdict in NOTED][
        -3:
    ]
    if seen.open_late:
        found.append(f"{seen.open_late} questions wait for more than {LATE_S:.0f} s.")
    if seen.failed:
        found.append(f"{seen.failed} questions got no answer in the last 24 hours.")
    return found


def _refused(champion: Promotion | None) -> str:
    if champion is None:
        return ""
    if champion.confirmed not in ("", "ok"):
        return f"The engine refused {name_of(champion)}: {escape(champion.confirmed[:200])}"
    if champion.kind == "rollback" and champion.reason.startswith("the engine refused"):
        return f"Rolled back to {name_of(champion)}: {escape(champion.reason[:200])}"
    return ""


def _champion(ledger: Ledger) -> str:
    champion = ledger.promotions.champion()
    if champion is None:
        return "*Champion*\nThe base model answers; nothing was promoted yet."
    state = {"": "not confirmed by the engine yet", "ok": "confirmed by the engine"}.get(
        champion.confirmed, "refused by the engine"
    )
    since = f"{champion.at:%Y-%m-%d %H:%M} UTC"
    shared = sharing_text(ledger.promotions.sharing())
    rate = rate_text(ledger.picks.win_rate(champion.adapter_digest)) if champion.adapter_digest else ""
    picked = f"\nPicked blind against the base: {rate}" if rate else ""
    return f"*Champion*\n{name_of(champion)} answers since {since}, by {who(champion.actor)} ({state}).{shared}{picked}"


def _watch(ledger: Ledger) -> Blocks:
    """What the looks at the champion found last, and at the questions."""
    looks = ledger.watches.of(ledger.promotions.champion())
    lines = [f"• {escape(look.said[:400])}" for look in looks]
    return [section("*Watch*\n" + "\n".join(lines))] if lines else []


def _opinion(ledger: Ledger) -> str:
    """What people think of what serves: votes on its own answers only."""
    champion = ledger.promotions.champion()
    team, customers = votes_on(ledger.connections, champion.adapter_digest if champion else None)
    name = name_of(champion) if champion else "The base model"
    return f"*Ratings of {name[0].lower() + name[1:]}*\nAgents: {share(*team)}\nCustomers: {share(*customers)}"


def _coverage(seen: Trouble) -> str:
    if not seen.answered:
        return "no answers yet"
    return f"{seen.covered} of the last {seen.answered} answers have the base's beside them."


def _next_run(ledger: Ledger, settings: Settings) -> str:
    if not settings.retrain_cron:
        return "RETRAIN_CRON is empty: no run is scheduled."
    try:
        due = cron(settings.retrain_cron).get_next_fire_time(None, ledger.clock())
    except ConfigurationError as error:
        return escape(str(error))
    return f"{due:%A, %Y-%m-%d %H:%M} UTC" if due else f"`{escape(settings.retrain_cron)}` never comes round."


def _run(run: Run, ledger: Ledger) -> str:
    decision = ledger.promotions.decision(run.decision_id) if run.decision_id else None
    outcome = decision.verdict if decision else run.state
    why = escape((decision.reasons[0] if decision and decision.reasons else run.error)[:90])
    return f"• Run {run.run_id}, {run.requested_at:%Y-%m-%d %H:%M} UTC: {outcome}{': ' + why if why else ''}"


def _audited(row: dict[str, Any]) -> str:
    about = [
        f"{name.replace('_id', '')} {row['detail'][name]}" for name in ("run_id", "version") if name in row["detail"]
    ]
    did = row["action"].replace("_", " ")
    return (
        f"• {row['at']:%Y-%m-%d %H:%M} UTC {who(row['actor'][:60])}: {escape(' '.join([did, *map(str, about)])[:150])}"
    )
