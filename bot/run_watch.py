"""One live message for each run, then its report card in the same place, then the picture in its thread.

Promise: restart-safe. The message's ts and "the card was shown" are in the ledger; a progress update that fails is
skipped, the card is tried again until Slack takes it.
"""

import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from slack_sdk import WebClient

from bot import report_card
from bot.answer_view import Part
from bot.slack import SLACK_ERRORS, persist, trouble_of
from storage.ledger import Ledger
from storage.records import Run
from storage.settings import Settings

log = structlog.get_logger()
EVENT_TYPE = "evenkeel_run"
NOTE = "slack"
EVERY_S = 3.0
REPORT_PATIENCE = timedelta(seconds=30)
OLDEST = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWatch:
    settings: Settings
    ledger: Ledger
    client: WebClient
    every_s: float = EVERY_S
    _shown: dict[int, tuple[float, Part]] = field(default_factory=dict)

    def step(self) -> bool:
        """Bring every open message up to date; always False: it is called again after a pause."""
        for run in self.ledger.runs.recent(5):
            if not self._is_over(run):
                self.show(run)
        return False

    def show(self, run: Run) -> None:
        """Post or update the message of one run, and end it with the card."""
        if run.message_ts is None:
            run = self._announce(run)
        if run.message_ts is None:
            return
        if run.finished_at is None:
            self._show_progress(run, report_card.progress(run))
        elif (card := self._card(run)) is not None:
            self._update(run, card)
            self.ledger.runs.note(run.run_id, NOTE, "card shown")
            self._send_picture(run, card)

    def _is_over(self, run: Run) -> bool:
        """Whether nothing is left to show: the card is there, nobody listens, or it ended long ago."""
        if run.finished_at is not None and self.ledger.clock() - run.finished_at > OLDEST:
            return True
        if run.channel is None and not self.settings.ops_channel:
            return True
        said = {event["text"] for event in self.ledger.runs.history(run.run_id) if event["stage"] == NOTE}
        return bool(said & {"card shown", "no channel takes the message"})

    def _announce(self, run: Run) -> Run:
        """The run with its message: found again after a crash, or posted once."""
        part = report_card.progress(run)
        said = {event["text"] for event in self.ledger.runs.history(run.run_id) if event["stage"] == NOTE}
        for channel in dict.fromkeys(c for c in (run.channel, self.settings.ops_channel) if c):
            ts = self._find(run, channel) if f"posting to {channel}" in said else None
            if ts is None:
                self.ledger.runs.note(run.run_id, NOTE, f"posting to {channel}")
                ts = self._post(run, channel, part)
            if ts is not None:
                self.ledger.runs.set_message(run.run_id, channel=channel, message_ts=ts)
                return self.ledger.runs.get(run.run_id) or run
        self.ledger.runs.note(run.run_id, NOTE, "no channel takes the message")
        return run

    def _post(self, run: Run, channel: str, part: Part) -> str | None:
        """The ts, or None where the channel refuses. Raises what may be cured by waiting."""
        try:
            reply = self.client.chat_postMessage(
                channel=channel,
                text=part.text,
                blocks=list(part.blocks),
                unfurl_links=False,
                unfurl_media=False,
                metadata={"event_type": EVENT_TYPE, "event_payload": self._mark(run)},
            )
            return str(reply["ts"])
        except SLACK_ERRORS as error:
            trouble = trouble_of(error)
            log.warning("run_message_failed", run_id=run.run_id, kind=trouble.kind, code=trouble.code)
            if trouble.kind == "refused":
                return None
            raise

    def _find(self, run: Run, channel: str) -> str | None:
        """The message that an interrupted post may have left. Raises what may be cured by waiting."""
        try:
            reply = self.client.conversations_history(
                channel=channel, oldest=f"{run.requested_at.timestamp() - 1:.6f}", include_all_metadata=True, limit=200
            )
        except SLACK_ERRORS as error:
            if trouble_of(error).kind == "refused":
                return None
            raise
        marks = ((m, m.get("metadata") or {}) for m in reply.get("messages") or ())
        return next(
            (
                str(m["ts"])
                for m, mark in marks
                if mark.get("event_type") == EVENT_TYPE and mark.get("event_payload") == self._mark(run)
            ),
            None,
        )

    def _mark(self, run: Run) -> dict[str, Any]:
        return {"run_id": run.run_id, "requested_at": run.requested_at.isoformat()}

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

    def _card(self, run: Run) -> Part | None:
        """The final word; None while the report may still be on its way."""
        decision = self.ledger.promotions.decision(run.decision_id) if run.decision_id else None
        if run.state != "decided" or decision is None:
            return report_card.ended(run)
        found = self.ledger.report(run.run_id)
        versions = [p.version for p in self.ledger.promotions.history() if p.decision_id == run.decision_id]
        late = run.finished_at is not None and self.ledger.clock() - run.finished_at > REPORT_PATIENCE
        promoting = decision.verdict == "PROMOTE" and self.settings.auto_promote and not versions
        if (found is None or promoting) and not late:
            return None
        if found is None:
            return report_card.ended(run)
        return report_card.report(run, found["view"], decision, live_as=versions[-1] if versions else None)

    def _update(self, run: Run, card: Part) -> None:
        """Raises what may be cured by waiting; a message that is gone stays gone."""
        try:
            persist(
                lambda: self.client.chat_update(
                    channel=run.channel or "", ts=run.message_ts or "", text=card.text, blocks=list(card.blocks)
                )
            )
        except SLACK_ERRORS as error:
            if trouble_of(error).kind != "refused":
                raise
            log.warning("card_refused", run_id=run.run_id, code=trouble_of(error).code)

    def _send_picture(self, run: Run, card: Part) -> None:
        """Gain against loss, in the thread, with a word to whoever asked. A courtesy: failure is logged only."""
        found = self.ledger.report(run.run_id)
        asker = run.requested_by
        word = f"<@{asker}> {card.text}" if asker[:1] in "UW" and asker.isalnum() else card.text
        try:
            if found and Path(found["png_path"]).is_file():
                self.client.files_upload_v2(
                    channel=run.channel,
                    thread_ts=run.message_ts,
                    file=found["png_path"],
                    title=f"Run {run.run_id}: gain against loss",
                    initial_comment=word,
                )
                return
        except SLACK_ERRORS as error:
            log.warning("picture_failed", run_id=run.run_id, code=trouble_of(error).code)
        try:
            self.client.chat_postMessage(
                channel=run.channel or "", thread_ts=run.message_ts, text=word, unfurl_links=False
            )
        except SLACK_ERRORS as error:
            log.warning("word_failed", run_id=run.run_id, code=trouble_of(error).code)
