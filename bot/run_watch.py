"""One live message for each run, then its report card in the same place, then picture and losses in its thread.

Promise: restart-safe. Every message is said once (bot/once.py); which card was shown is in the ledger, and a candidate
whose standing changes gets its card drawn again. A progress update that fails is skipped; the card is tried again
until Slack takes it.
"""

import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackRequestError

from bot import report_card
from bot.answer_view import Part
from bot.once import Once, plainer
from bot.safe_text import person
from bot.slack import SLACK_ERRORS, persist, trouble_of
from storage.ledger import Ledger
from storage.notices import SILENT
from storage.records import Decision, Run
from storage.settings import Settings
from storage.standing import standing

log = structlog.get_logger()
NOTE, SHOWN, NOBODY = "slack", "card shown", "no channel takes the message"
EVERY_S = 3.0
REPORT_PATIENCE = timedelta(seconds=30)
OLDEST = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWatch:
    settings: Settings
    ledger: Ledger
    client: WebClient
    once: Once
    every_s: float = EVERY_S
    _shown: dict[int, tuple[float, Part]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # a click and the clock draw one after the other

    def step(self) -> bool:
        """Bring every open message up to date; always False: it is called again after a pause.

        Slack's trouble with one run keeps no other from being shown; then it is raised.
        """
        troubles = []
        for run in self.ledger.runs.recent(5):
            if not self._is_over(run):
                try:
                    self.show(run)
                except SLACK_ERRORS as error:
                    troubles.append(error)
        if troubles:
            raise troubles[0]
        return False

    def show(self, run: Run) -> None:
        """Post or update the message of one run, and end it with the card. Raises what may be cured by waiting."""
        if run.message_ts is None:
            run = self._announce(run)
        if run.message_ts is None:
            return
        if run.finished_at is None:
            self._show_progress(run, report_card.progress(run))
            return
        with self._lock:
            self._end(run)

    def _end(self, run: Run) -> None:
        word = self._word(run)
        if word is None or (word == self._last_word(run) and self._is_told(run)):
            return
        forms = self._forms(run)
        if word != self._last_word(run):
            self._update(run, forms)
            self.ledger.runs.note(run.run_id, NOTE, f"{SHOWN}: {word}")
        self._send_picture(run, forms[0])
        self._send_losses(run)

    def _notes(self, run: Run) -> list[str]:
        return [event["text"] for event in self.ledger.runs.history(run.run_id) if event["stage"] == NOTE]

    def _last_word(self, run: Run) -> str | None:
        shown = [text for text in self._notes(run) if text.startswith(SHOWN)]
        return shown[-1].removeprefix(f"{SHOWN}: ") if shown else None

    def _is_over(self, run: Run) -> bool:
        """Whether nothing is left to show: nobody listens, it ended long ago, or all is said and cannot change."""
        if run.channel is None and not self.settings.ops_channel:
            return True
        word = self._last_word(run)
        if run.finished_at is not None and self.ledger.clock() - run.finished_at > OLDEST:
            return word != "waiting"
        if NOBODY in self._notes(run):
            return True
        return word in ("REFUSE", "HOLD", "failed", "cancelled") and self._is_told(run)

    def _is_told(self, run: Run) -> bool:
        """Whether the thread has all that belongs into it."""
        return all(self.ledger.notices.is_settled(key) for key in (_picture(run), _losses(run)))

    def _announce(self, run: Run) -> Run:
        """The run with its message, in the first channel that takes it."""
        for channel in dict.fromkeys(c for c in (run.channel, self.settings.ops_channel) if c):
            key = f"run:{run.run_id}:card:{channel}"
            since = run.requested_at.timestamp() - 1
            if not self.once.say(key, channel, report_card.progress(run), since=since):
                return run  # another bot is at it
            notice = self.ledger.notices.get(key)
            if notice is not None and notice.ts not in (None, SILENT):
                self.ledger.runs.set_message(run.run_id, channel=channel, message_ts=str(notice.ts))
                return self.ledger.runs.get(run.run_id) or run
        self.ledger.runs.note(run.run_id, NOTE, NOBODY)
        return run

    def _show_progress(self, run: Run, part: Part) -> None:
        """Skipped when nothing changed or when the last update is younger than three seconds."""
        at, last = self._shown.get(run.run_id, (0.0, None))
        if part == last or time.monotonic() - at < self.every_s:
            return
        self._shown[run.run_id] = (time.monotonic(), part)
        try:
            self.client.chat_update(
                channel=run.channel or "", ts=run.message_ts or "", text=part.text, blocks=list(part.blocks)
            )
        except SLACK_ERRORS as error:
            log.info("progress_skipped", run_id=run.run_id, code=trouble_of(error).code)

    def _word(self, run: Run) -> str | None:
        """What the card has to say, in a word; None while its report may still be on its way."""
        decision = self._decision(run)
        if decision is None or run.decision_id is None:
            return run.state
        stands = standing(self.ledger.connections, run.decision_id) if decision.verdict == "PROMOTE" else None
        late = run.finished_at is not None and self.ledger.clock() - run.finished_at > REPORT_PATIENCE
        promoting = stands is not None and stands.state == "waiting" and self.settings.auto_promote
        has_report = self.ledger.has_report(run.run_id)
        if (not has_report or promoting) and not late:
            return None
        if not has_report:
            return "no report"
        if stands is None:
            return decision.verdict
        return "was live" if stands.state == "live" and not stands.serves else stands.state

    def _decision(self, run: Run) -> Decision | None:
        decided = run.state == "decided" and run.decision_id is not None
        return self.ledger.promotions.decision(run.decision_id or 0) if decided else None

    def _forms(self, run: Run) -> tuple[Part, ...]:
        """The card, the richest form first."""
        decision, found = self._decision(run), self.ledger.report(run.run_id)
        if decision is None or run.decision_id is None or found is None:
            return (report_card.ended(run),)
        stands = standing(self.ledger.connections, run.decision_id) if decision.verdict == "PROMOTE" else None
        return report_card.report(run, found["view"], decision, stands)

    def _update(self, run: Run, forms: tuple[Part, ...]) -> None:
        """Raises what may be cured by waiting; a message that is gone stays gone."""

        def send(part: Part) -> str:
            return persist(
                lambda: str(
                    self.client.chat_update(
                        channel=run.channel or "", ts=run.message_ts or "", text=part.text, blocks=list(part.blocks)
                    )["ts"]
                )
            )

        try:
            plainer(forms, send)
        except SLACK_ERRORS as error:
            if trouble_of(error).kind != "refused":
                raise
            log.warning("card_refused", run_id=run.run_id, code=trouble_of(error).code)

    def _send_picture(self, run: Run, card: Part) -> None:
        """Gain against loss, in the thread, with a word to whoever asked; the word alone where there is no picture."""
        asker = run.requested_by
        word = f"<@{asker}> {card.text}" if person(asker) else card.text
        found = self.ledger.report(run.run_id)
        if found is None or not Path(found["png_path"]).is_file():
            self.once.say(_picture(run), run.channel or "", Part(text=word, blocks=()), thread_ts=run.message_ts)
            return
        title, path = f"Run {run.run_id}: gain against loss", found["png_path"]
        self.once.do(
            _picture(run),
            run.channel or "",
            lambda: self._upload(run, path, title=title, word=word),
            lambda: self._find_picture(run, title),
        )

    def _upload(self, run: Run, path: str, *, title: str, word: str) -> str:
        """The file's id; where Slack takes no file, the ts of the word alone. Raises Slack's errors."""
        try:
            reply = self.client.files_upload_v2(
                channel=run.channel, thread_ts=run.message_ts, file=path, title=title, initial_comment=word
            )
            return str((reply.get("files") or [{}])[0].get("id"))
        except (SlackRequestError, HTTPError) as error:  # its bytes were not taken, so nothing stands in Slack yet
            if isinstance(error, HTTPError) and error.code >= 500:
                raise
            log.warning("picture_failed", run_id=run.run_id, code=type(error).__name__)
        except SLACK_ERRORS as error:
            if trouble_of(error).kind != "refused":
                raise
            log.warning("picture_failed", run_id=run.run_id, code=trouble_of(error).code)
        return self.once.post(_picture(run), run.channel or "", Part(text=word, blocks=()), run.message_ts)

    def _find_picture(self, run: Run, title: str) -> str | None:
        """The picture, or the word in its place, that an interrupted try may have left."""
        for message in self.once.recent(run.channel or "", run.message_ts):
            if any(file.get("title") == title for file in message.get("files") or ()):
                return str(message["ts"])
        return self.once.find(_picture(run), run.channel or "", run.message_ts, None)

    def _send_losses(self, run: Run) -> None:
        """The items that lost most, in the thread; nothing where there are none."""
        if self.ledger.notices.is_settled(_losses(run)):
            return
        found = self.ledger.report(run.run_id)
        losses = found["view"].get("regressions") if found else None
        if not losses:
            self.ledger.notices.settle(_losses(run), run.channel or "")
            return
        self.once.say(_losses(run), run.channel or "", report_card.regressions(run, losses), thread_ts=run.message_ts)


def _picture(run: Run) -> str:
    return f"run:{run.run_id}:picture"


def _losses(run: Run) -> str:
    return f"run:{run.run_id}:regressions"
