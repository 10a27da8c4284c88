"""Ten questions to a candidate that waits: its answers beside those of the model that serves, for one admin.

Promise: the ten are chosen once, each is answered in one message, over restarts too; customers' questions go first
(these are asked like the shadow's), and a model that is away is said to be away.
"""

from dataclasses import dataclass

from slack_sdk import WebClient

from bot.answer_view import PART, Part, context, section
from bot.models import UNREACHABLE, Models
from bot.once import Once
from bot.safe_text import escape, printable, safe, split
from storage.digests import digest_of, short
from storage.ledger import Ledger
from storage.notices import Notice
from storage.records import Answer, Decision, Exchange, Message, Run
from storage.settings import Settings

MOST, SEEN = 10, 200
PREFIX = "try:"
AWAY = "_The model server is away, so this is where I stop. Press *Try ten questions* again later._"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as it was or would be sent to the models. `key` finds it again in the ledger."""

    key: str
    text: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A job is a notice `try:<candidate>:<admin>:<n>`; under it hang its head, ten questions and, at worst, its end."""

    settings: Settings
    ledger: Ledger
    client: WebClient
    models: Models

    def begin(self, user: str, run: Run, decision: Decision) -> str:
        """Choose the ten and leave the rest to the worker; what the admin reads. Raises Slack's errors."""
        questions = self._questions()
        if not questions:
            return "There is no question to try yet. Next: ask one, or import tickets (`evenkeel import`)."
        channel = str(self.client.conversations_open(users=user)["channel"]["id"])
        notices, prefix = self.ledger.notices, f"{PREFIX}{decision.candidate_digest}:{user}:"
        with self.ledger.connections.write():
            jobs = [notice for notice in notices.under(prefix) if _is_job(notice)]
            if any(job.ts is None for job in jobs):
                return "I am asking these questions already: see our direct messages."
            job = f"{prefix}{run.run_id}-{len(jobs) + 1:03}"
            for key in (job, *(f"{job}:{n:02}:{asked.key}" for n, asked in enumerate(questions, start=1))):
                notices.begin(key, channel, lease_s=0)
                notices.let_go(key)
            self.ledger.audit(user, "try_ten", {"run_id": run.run_id, "candidate": short(decision.candidate_digest)})
        return f"I am asking {len(questions)} questions: see our direct messages."

    def step(self) -> bool:
        """Answer one question of the oldest open job; False when there is none, or another bot is at it."""
        open_jobs = [n for n in self.ledger.notices.under(PREFIX) if _is_job(n) and n.ts is None]
        return any(self._go_on(job) for job in open_jobs)

    def _go_on(self, job: Notice) -> bool:
        """Whether something was done. Raises what may be cured by waiting."""
        once = Once(ledger=self.ledger, client=self.client, lease_s=2 * self.settings.answer_deadline_s + 30)
        items = [n for n in self.ledger.notices.under(f"{job.key}:") if n.key.count(":") == 5]
        head = f"{job.key}:head"
        if not once.say(head, job.channel, self._head(job, len(items)), since=0.0):
            return False
        top = self.ledger.notices.get(head)
        waiting = [n for n in items if n.ts is None]
        if not waiting or top is None:
            self.ledger.notices.settle(job.key, job.channel)
            return True
        place = f"{items.index(waiting[0]) + 1} of {len(items)}"
        return self._answer(once, job, waiting, place, str(top.ts))

    def _answer(self, once: Once, job: Notice, waiting: list[Notice], place: str, thread_ts: str) -> bool:
        item = waiting[0]
        asked = self._asked(item.key.split(":", 5)[5])
        if asked is None:  # erased since
            self.ledger.notices.settle(item.key, job.channel)
            return True
        said: list[Answer] = []

        def say() -> str:
            said.extend(self._both(job.key.split(":")[1], asked))
            return once.post(item.key, job.channel, self._pair(asked, said, place), thread_ts)

        done = once.do(item.key, job.channel, say, lambda: once.find(item.key, job.channel, thread_ts, None))
        if done and said and all(answer.reason.startswith(UNREACHABLE) for answer in said):
            once.say(f"{job.key}:end", job.channel, Part(text=AWAY, blocks=(section(AWAY),)), thread_ts=thread_ts)
            for left in waiting:
                self.ledger.notices.settle(left.key, job.channel)
        return done

    def _both(self, digest: str, asked: Asked) -> tuple[Answer, Answer]:
        deadline_s, champion = self.settings.answer_deadline_s, self.ledger.promotions.champion()
        candidate = self.models.ask_adapter(digest, asked.messages, deadline_s=deadline_s)
        if champion is None or champion.adapter_digest is None:
            return candidate, self.models.ask("base", asked.messages, deadline_s=deadline_s)
        serving = self.models.ask_adapter(champion.adapter_digest, asked.messages, deadline_s=deadline_s)
        return candidate, serving

    def _head(self, job: Notice, count: int) -> Part:
        _, digest, _, run = job.key.split(":")
        text = f"{count} questions to the candidate of run {run.partition('-')[0]}, adapter {short(digest)}"
        return Part(text=text, blocks=(section(f"*{text}*"), context("Its answers and those of what serves, below.")))

    def _pair(self, asked: Asked, said: list[Answer], place: str) -> Part:
        champion = self.ledger.promotions.champion()
        serving = f"Champion v{champion.version}" if champion and champion.adapter_digest else "Base model, serves now"
        question = escape(printable(asked.text)[:1_000])
        return Part(
            text=f"Question {place}",
            blocks=(
                section(f"*{place}* · {question}"),
                *(
                    section(f"*{name}*\n{self._shown(answer)}")
                    for name, answer in zip(("Candidate", serving), said, strict=True)
                ),
            ),
        )

    def _shown(self, answer: Answer) -> str:
        if answer.status != "ok":
            return f"_No answer: {safe(answer.reason[:300])}_"
        first, *rest = split(safe(answer.text, self.settings.link_domains), PART - 100) or ("_nothing printable_",)
        return f"{first} …" if rest else first

    # Which questions

    def _questions(self) -> tuple[Asked, ...]:
        """The newest ten that differ, as people asked them; imported ones where nobody asked yet."""
        found: dict[str, Asked] = {}
        for exchange in self.ledger.exchanges.recent(SEEN):
            asked = _asked(exchange)
            if asked.text.strip():
                found.setdefault(asked.text.casefold().strip(), asked)
        return tuple((found or self._tickets()).values())[:MOST]

    def _tickets(self) -> dict[str, Asked]:
        found = {}
        for ticket in self.ledger.lessons.tickets():
            key = f"t{digest_of(ticket.question)[:16]}"
            messages = (
                {"role": "system", "content": self.settings.system_prompt},
                {"role": "user", "content": ticket.question},
            )
            found[key] = Asked(key=key, text=ticket.question, messages=messages)
        return found

    def _asked(self, key: str) -> Asked | None:
        """The question under this key, unless it was erased."""
        if key.startswith("t"):
            return self._tickets().get(key)
        exchange = self.ledger.exchanges.get(int(key[1:]))
        return None if exchange is None else _asked(exchange)


def _asked(exchange: Exchange) -> Asked:
    question = exchange.question
    return Asked(key=f"e{exchange.exchange_id}", text=question.text, messages=question.messages)


def _is_job(notice: Notice) -> bool:
    return notice.key.count(":") == 3
