"""How the review queue looks: blind cards, the end of a session, and what is said instead of a card. Pure.

Promise: nothing in a view (text, order of fields, ids, values, private_metadata) tells which model gave answer A.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bot.answer_view import actions, button, context, section
from bot.modals import View, modal
from bot.safe_text import escape, printable, safe, split
from storage.clock import to_text
from storage.digests import digest_of
from storage.picks import PickVerdict, WinRate
from storage.records import Answer, Exchange, Role

REVIEW_ACTION = "evenkeel_review"
PICK = "evenkeel_pick_"  # and a choice: the buttons of a card
TITLE = "Review"
BUTTONS = (
    ("a", "A better"), ("b", "B better"), ("both", "Both fine"), ("neither", "Both bad"),
    ("edit", "Write a better one"), ("skip", "Skip"),
)  # fmt: skip
CHOICES = tuple(choice for choice, _ in BUTTONS)
QUESTION, ANSWER, SECTIONS = 1_500, 2_900, 4  # characters of a question and of a section; sections of one answer
METADATA = 3_000
EMPTY = (
    "*Nothing to review now.*\nA card needs a question of the last 30 days with two different answers that you have not "
    "seen labelled and that fewer than two people have judged. Come back after some more questions."
)
NOT_YOU = "Only support agents can review answers. If you should be one, ask an admin to add you to AGENTS."
UNKNOWN = (
    "I could not check with Slack whether you are a support agent, so nothing was kept. Please try again in a minute."
)
NO_VIEW = "Slack did not open the review queue in time. Please try `/review` again."
NO_FORM = (
    "Slack did not open the form, and this card is passed. You can still write a better answer under the bot's own."
)
OUTDATED = "This card is out of date, so nothing was kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sitting: the exchanges to show, in order, and where `/review` was typed ("" in the App Home)."""

    queue: tuple[int, ...]
    channel: str = ""

    def to_text(self) -> str:
        return json.dumps(asdict(self))


def session_from(text: object) -> Session | None:
    """The session of a card's private_metadata; None for anything else."""
    if not isinstance(text, str) or len(text) > METADATA:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    queue = found.get("queue") if isinstance(found, dict) else None
    if not isinstance(queue, list) or not queue or not all(type(each) is int and each > 0 for each in queue):
        return None
    return Session(queue=tuple(queue), channel=str(found.get("channel") or ""))


def first_of(exchange: Exchange, reviewer: str) -> Role:
    """Who is answer A on this reviewer's card: always the same, and drawn with a moment that only the ledger knows."""
    at = exchange.tuned.answered_at if exchange.tuned else None
    drawn = digest_of([exchange.exchange_id, reviewer, to_text(at) if at else ""])
    return "tuned" if int(drawn, 16) % 2 else "base"


def verdict_of(choice: str, first: Role) -> PickVerdict:
    """What a button means. Whoever writes a better answer sees who spoke: that is no verdict."""
    second: Role = "base" if first == "tuned" else "tuned"
    meant: dict[str, PickVerdict] = {"a": first, "b": second, "both": "both", "neither": "neither"}
    return meant.get(choice, "skip")


def card(exchange: Exchange, reviewer: str, session: Session, *, domains: Sequence[str] = (), said: str = "") -> View:
    """One exchange to judge, under what came of the last click."""
    answers = [exchange.tuned, exchange.base]
    if first_of(exchange, reviewer) == "base":
        answers.reverse()
    place, value = session.queue.index(exchange.exchange_id) + 1, str(exchange.exchange_id)
    buttons = [button(label, f"{PICK}{choice}", value) for choice, label in BUTTONS]
    return modal(
        TITLE,
        *([section(f"*{said}*")] if said else []),
        context(f"{place} of {len(session.queue)}"),
        section(f"*Question*\n{_cut(exchange.question.text, QUESTION)}"),
        *_earlier(exchange),
        {"type": "divider"},
        *(block for name, answer in zip("AB", answers, strict=True) for block in _answer(name, answer, domains)),
        {"type": "divider"},
        actions(*buttons[:4]),
        actions(*buttons[4:]),
        private_metadata=session.to_text(),
    )


def _earlier(exchange: Exchange) -> list[View]:
    """What the same thread asked before: a follow-up says little without it."""
    asked = [m["content"] for m in exchange.question.messages if m["role"] == "user"][:-1]
    return [context(f"Asked before in this thread: {_cut(asked[-1], 300)}")] if asked else []


def _answer(name: str, answer: Answer | None, domains: Sequence[str]) -> list[View]:
    """One answer in as many sections as it needs, at most four."""
    texts = split(safe(answer.text if answer else "", domains), ANSWER - 100) or ("_nothing printable_",)
    more = [context("_The rest is not shown here._")] if len(texts) > SECTIONS else []
    return [section(f"*Answer {name}*"), *(section(text) for text in texts[:SECTIONS]), *more]


def _cut(text: str, longest: int) -> str:
    """People's words, at most so many characters of them, harmless."""
    parts = split(escape(printable(text)), longest)
    return parts[0] + (" …" if len(parts) > 1 else "") if parts else "–"


def thanks(
    verdicts: Sequence[PickVerdict], rate: WinRate, preferences: int, *, champion: WinRate | None = None, said: str = ""
) -> View:
    """The end of a session: what it changed. `champion`: the rate of what serves now."""
    judged = [v for v in verdicts if v != "skip"]
    pairs = sum(v in ("tuned", "base") for v in judged)
    counted = f"{_many(len(judged), 'answer pair')} judged, {_many(len(verdicts) - len(judged), 'card')} skipped."
    return modal(
        TITLE,
        *([section(f"*{said}*")] if said else []),
        section(f"*Thank you.*\n{counted}"),
        section(
            f"*What it changed*\n{_many(pairs, 'preference pair')} came of it; the team's picks give {preferences} in all."
        ),
        section(f"*Tuned against base, picked blind*\n{rate_text(rate)}"),
        *([section(f"*What serves now against base*\n{rate_text(champion)}")] if champion else []),
        context("Every third card is drawn by lot, and only those count here; the others teach most."),
        actions(button("More cards", REVIEW_ACTION, "more")),
    )


def rate_text(rate: WinRate) -> str:
    """`60 % for tuned (95 % interval 41 to 77 %, n = 25). Both fine and both bad count half.`"""
    if rate.share is None:
        return "Nothing drawn by lot was judged yet."
    span = f"95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f} %"
    ties = " Both fine and both bad count half." if rate.ties else ""
    return f"{100 * rate.share:.0f} % for tuned ({span}, n = {rate.n}).{ties}"


def instead(text: str, *, again: bool = True) -> View:
    """A word in place of a card, and a way to look again."""
    return modal(TITLE, section(text), *([actions(button("Look again", REVIEW_ACTION, "again"))] if again else []))


def _many(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
