"""The second half of the line on one screen: dataset → adapter → scorecards → decision → promotion.

Promises: a run that was interrupted goes on with what it had finished; a step whose worker lost its lease writes
nothing more; whatever goes wrong, the champion stays. Knows the order of the steps, not how they are done.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from bot.engine.base import base_folder
from eval.doubt import sentence
from eval.gate import decide_on, weaker_may_pass
from eval.policy import for_scales, policy_from
from eval.report import publish
from storage.clock import from_text
from storage.errors import Busy, EvenkeelError, GateSaidNo, LostLease, TooLittleData
from storage.ledger import Ledger
from storage.promotions import GATE
from storage.reach import keep_reach
from storage.recipe import Recipe, recipe_from
from storage.records import Adapter, Dataset, Promotion, Run, RunState, Scorecard
from storage.settings import Settings
from storage.weights import adapter_path, verify_adapter
from training.child import run_child
from training.collecting import collect, keep_collected, require_enough, summary_of, warnings_of
from training.dataset import load_dataset
from training.history import history_of
from training.trainers import Trainer

log = structlog.get_logger()
LEASE_S = 60.0
CONFIRM_S = 60.0
STAGES = ("building", "training", "scoring", "deciding")


class CancelledRun(EvenkeelError):
    """An admin asked to stop."""


def run_cycle(run: Run, *, ledger: Ledger, settings: Settings, trainer: Trainer) -> Run:
    """Bring a claimed run to its end: decided, failed or cancelled. A dry run ends as decided, without a decision.

    Raises Busy when the ledger was locked for long, LostLease when the run is somebody else's by now: it has not ended,
    and whoever claims it next goes on with it. Nothing cancels or fails a run whose candidate went live.
    """
    work = Cycle(run=run, ledger=ledger, settings=settings, trainer=trainer)
    try:
        if run.decision_id is not None and work.promotion_made(run.decision_id):
            work.promote(run.decision_id)
            return work.close("decided")
        recipe, work.unfollowed = trainer.fit(recipe_from(settings, run.overrides))
        if run.overrides.get("dry_run"):
            work.rehearse(recipe)
            return work.close("decided")
        dataset = work.build(recipe)
        adapter = work.tune(dataset, recipe)
        work.promote(work.judge(dataset, adapter, recipe.scales))
        return work.close("decided")
    except Busy:
        raise
    except CancelledRun as error:
        return work.give_up("cancelled", str(error))
    except TooLittleData as error:
        return work.give_up("failed", f"Too little data: {error}")
    except EvenkeelError as error:
        return work.give_up("failed", str(error))
    except Exception as error:  # the named place: a surprise fails the run with its name, and the champion stays
        log.error("run_failed", run_id=run.run_id, error=type(error).__name__, exc_info=True)
        return work.give_up(
            "failed", f"unexpected {type(error).__name__}: {error}. Next: the worker's log has the details."
        )


@dataclass(slots=True, kw_only=True)
class Cycle:
    """One run in progress."""

    run: Run
    ledger: Ledger
    settings: Settings
    trainer: Trainer
    unfollowed: tuple[str, ...] = ()  # what the recipe asks and the trainer cannot do
    goes_on_elsewhere: bool = False  # nobody could be asked to end it: what is known of it is kept
    shown_at: float = 0.0
    newest: Mapping[str, Any] = field(default_factory=dict)

    def build(self, recipe: Recipe) -> Dataset:
        """The dataset of all lessons there are now; a resumed run keeps the one that it started with, while it is there."""
        began = self.enter("building", "collecting lessons")
        if self.run.dataset_digest:
            folder = self.settings.datasets_dir / self.run.dataset_digest
            if folder.is_dir():
                return load_dataset(folder)
            self.start_over()

        def collected() -> Dataset:
            found = collect(self.ledger, self.settings, recipe).dataset
            require_enough(found, self.settings.min_lessons)
            return found

        dataset, path = keep_collected(self.ledger, self.settings, collected)
        keep_reach(dataset, path)
        self.move("building", dataset_digest=dataset.digest)
        lint = dataset.manifest["lint"]
        self.note(
            "building", began, f"{len(dataset.train)} rows to train on, {len(dataset.holdout)} held out", {"lint": lint}
        )
        for warning in (*self.unfollowed, *warnings_of(dataset, recipe)):
            self.ledger.runs.note(self.run.run_id, "building", f"warning: {warning}")
        return dataset

    def start_over(self) -> None:
        """A dataset goes when somebody in it is forgotten: what was begun or made with it goes out of the run, too."""
        said = self.cancel_elsewhere()
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.goes_on_elsewhere = False
        self.move("building", dataset_digest=None, adapter_digest=None, decision_id=None)
        begun = "somebody in its dataset was forgotten: the run begins anew"
        self.ledger.runs.note(self.run.run_id, "building", "; ".join(filter(None, (begun, said))))

    def rehearse(self, recipe: Recipe) -> None:
        """A dry run: what would be trained, in the run's progress and history. Nothing is kept and nothing trained."""
        began = self.enter("building", "collecting lessons for a dry run")
        dataset, pace = collect(self.ledger, self.settings, recipe).dataset, self.ledger.runs.pace()
        seconds = pace.seconds(rows=len(dataset.train), epochs=recipe.epochs) if pace else None
        found = {
            **summary_of(dataset, self.settings.min_lessons),
            "seconds": seconds,
            "warnings": [*self.unfollowed, *warnings_of(dataset, recipe)],
        }
        self.newest = {"text": "nothing is trained in a dry run", "dry_run": found}
        self.show(self.newest, stage_no=1)
        self.note(
            "dry run", began, f"{found['train']} rows to train on, {found['holdout']} held out", {"dry_run": found}
        )

    def tune(self, dataset: Dataset, recipe: Recipe) -> Adapter:
        """The candidate, trained from the base in a child process, or by one at the base's own server."""
        began = self.enter("training", "starting")
        known = self.ledger.lessons.adapter(self.run.adapter_digest) if self.run.adapter_digest else None
        if known is not None:
            origin = known.recipe.get("scaled_from", known.digest)
            verify_adapter(adapter_path(self.settings.weights_dir, origin), base=known.base_digest)
            trained = self.ledger.lessons.adapter(origin)
            assert trained is not None
            return trained
        made = run_child(
            self.trainer.tune,
            self.job(dataset=self.folder(dataset), recipe=recipe.to_dict(), checkpoints=str(self.checkpoints)),
            self.beat,
        )
        adapter = Adapter(**{**made, "created_at": from_text(made["created_at"])})
        self.ledger.lessons.add_adapter(adapter)
        self.move("training", adapter_digest=adapter.digest)
        first, *more = history_of(adapter)
        self.note("training", began, first)
        for line in more:
            self.ledger.runs.note(self.run.run_id, "training", line)
        return adapter

    def cancel_elsewhere(self) -> str:
        """What became of the work that does not end with its child, in words."""
        if not self.trainer.cancel or not self.checkpoints.exists():
            return ""
        try:
            return str(run_child(self.trainer.cancel, self.job(checkpoints=str(self.checkpoints)), self.hold)["said"])
        except Busy:
            raise
        except EvenkeelError as error:
            self.goes_on_elsewhere = True
            log.warning("job_may_still_run", run_id=self.run.run_id, notes=str(self.checkpoints), reason=str(error))
            return f"its job may still run, and wants to be cancelled by hand: {error}"

    def judge(self, dataset: Dataset, trained: Adapter, scales: Sequence[float]) -> int:
        """The decision on the strongest of these scales that passes, else on the last that could have.

        All of them are looks at one hypothesis and share its risk. A resumed run goes on at the scale it was at.
        """
        known = self.ledger.lessons.adapter(self.run.adapter_digest or "")
        at = known.recipe.get("scale", 1.0) if known is not None else None
        for scale in scales[scales.index(at) if at in scales else 0 :]:
            candidate = self.at_scale(trained, scale)
            decision_id = self.decide(self.score(dataset, candidate, looks=len(scales)), looks=len(scales))
            decision = self.ledger.promotions.decision(decision_id)
            assert decision is not None
            if not weaker_may_pass(decision):
                break
        return decision_id

    def at_scale(self, trained: Adapter, scale: float) -> Adapter:
        """The trained adapter or a weaker copy of it, as the run's candidate."""
        adapter = trained if scale == 1 else self.weaker(trained, scale)
        if adapter.digest != self.run.adapter_digest:
            self.ledger.lessons.add_adapter(adapter)
            self.move("scoring", adapter_digest=adapter.digest, decision_id=None)
        return adapter

    def weaker(self, trained: Adapter, scale: float) -> Adapter:
        made = run_child("weaken", self.job(adapter=trained.digest, scale=scale), self.beat)
        return replace(trained, digest=made["digest"], path=made["path"], recipe=made["recipe"])

    def score(self, dataset: Dataset, adapter: Adapter, *, looks: int) -> Mapping[str, Scorecard]:
        """Base (from the ledger where it was measured before), champion, candidate, and the base again before a promotion,
        in a child process."""
        began = self.enter("scoring", "loading the base")
        champion = self.ledger.promotions.champion_on(adapter.base_digest)
        subjects = [("base", None), *([("champion", champion)] if champion else []), ("candidate", adapter.digest)]
        job = self.job(dataset=self.folder(dataset), subjects=subjects, looks=looks)
        made = run_child("score", job, self.beat)["scores"]  # of this candidate: another scale's "again" is not its own
        cards = self.ledger.scores.cards(self.run.run_id, made)
        self.note("scoring", began, f"{', '.join(cards)} scored")
        doubt = self.ledger.doubt.of(adapter.base_digest, adapter.digest)
        if doubt is not None:
            self.ledger.runs.note(self.run.run_id, "scoring", f"the candidate {sentence(doubt)}")
        if any(subject not in cards for subject, _ in subjects):
            raise EvenkeelError("the scores of this run are not in the ledger. Next: evenkeel db verify.")
        return cards

    def decide(self, cards: Mapping[str, Scorecard], *, looks: int) -> int:
        """The gate's word, appended to the ledger's chain."""
        self.show({"text": "the gate compares"}, stage_no=4)
        if self.run.decision_id is not None:
            return self.run.decision_id
        decision = decide_on(cards, for_scales(policy_from(self.settings), looks))
        decision_id = self.ledger.promotions.decide(decision, run_id=self.run.run_id, actor=GATE)
        self.move("scoring", decision_id=decision_id)
        at = f"one of {looks} scales: " if looks > 1 else ""
        self.ledger.runs.note(self.run.run_id, "deciding", f"{at}{decision.verdict}: {'; '.join(decision.reasons)}")
        return decision_id

    def promote(self, decision_id: int) -> None:
        """Go live if the gate and the settings allow it; publish the report either way.

        A report that cannot be made is a line of the history: who serves is decided by then.
        """
        decision = self.ledger.promotions.decision(decision_id)
        assert decision is not None
        if decision.verdict == "PROMOTE" and self.settings.auto_promote:
            try:
                outcome = self.settle(self.promotion_of(decision_id))
            except GateSaidNo as error:
                outcome = str(error)
            self.ledger.runs.note(self.run.run_id, "promoting", outcome)
        try:
            publish(self.ledger, self.run.run_id, self.settings.reports_dir)
        except Busy:
            raise
        except Exception as error:  # the other named place: pictures and pages must not undo what is decided
            log.error("report_failed", run_id=self.run.run_id, error=type(error).__name__, exc_info=True)
            said = f"the report could not be made ({type(error).__name__}: {error}). Next: the worker's log."
            self.ledger.runs.note(self.run.run_id, "deciding", said)

    def promotion_of(self, decision_id: int) -> Promotion:
        """The promotion that follows from a decision, made once however often the run is resumed. Raises GateSaidNo."""
        return self.promotion_made(decision_id) or self.ledger.promotions.promote(
            decision_id, actor=GATE, reason="the gate said PROMOTE", percent=self.settings.canary_percent
        )

    def promotion_made(self, decision_id: int) -> Promotion | None:
        """The promotion that was made by a decision."""
        return next((p for p in self.ledger.promotions.history() if p.decision_id == decision_id), None)

    def settle(self, promotion: Promotion) -> str:
        """How the promotion ended, in words; an adapter that the engine refuses is rolled back at once.

        Only while it is the champion: nobody else's rollback is undone. Too late to cancel: its row is the switch.
        """
        name, serving = f"v{promotion.version}", self.await_engine(promotion)
        if serving is None:
            return f"{name} serves no more: somebody put another in its place"
        if not serving.confirmed:
            return f"{name} is the champion; no engine has confirmed it yet"
        if serving.confirmed == "ok":
            return f"{name} serves: the engine's canary answered with it"
        with self.ledger.connections.write():
            if not self.ledger.promotions.serves(promotion):
                return f"{name} serves no more: somebody put another in its place"
            self.ledger.promotions.rollback(actor=GATE, reason=f"the engine refused {name}: {serving.confirmed}")
        return f"rolled back: the engine refused the adapter: {serving.confirmed}"

    def await_engine(self, promotion: Promotion) -> Promotion | None:
        """The promotion once the engine's canary spoke, or as it stands after CONFIRM_S; None when it is not the last."""
        until = time.monotonic() + CONFIRM_S
        while True:
            serving = self.ledger.promotions.champion()
            if serving is None or serving.promotion_id != promotion.promotion_id:
                return None
            if serving.confirmed or time.monotonic() >= until:
                return serving
            if self.is_due():
                self.tell({"text": "waiting for the engine's canary"}, stage_no=4)
            time.sleep(0.3)

    # How it is told

    @property
    def checkpoints(self) -> Path:
        return self.settings.weights_dir / "checkpoints" / str(self.run.run_id)

    def folder(self, dataset: Dataset) -> str:
        return str(self.settings.datasets_dir / dataset.digest)

    def job(self, **more: Any) -> dict[str, Any]:
        """What a child needs to know: paths and settings without secrets."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "base": "" if self.settings.is_hosted else str(base_folder(self.settings)),
            "run_id": self.run.run_id,
            **more,
        }

    def enter(self, state: RunState, text: str) -> float:
        self.move(state)
        self.newest = {"text": text}
        self.show(self.newest, stage_no=STAGES.index(state) + 1)
        return time.monotonic()

    def move(self, state: RunState, **columns: Any) -> None:
        self.run = self.ledger.runs.advance(self.run, state=state, lease_s=LEASE_S, **columns)

    def beat(self, progress: Mapping[str, Any] | None) -> None:
        """A child's heartbeat: once a second hold the lease and show its newest progress. Raises CancelledRun.

        A ledger that is locked for a moment costs one line of progress, not the run: the lease is longer.
        """
        self.newest = progress or self.newest
        if not self.is_due():
            return
        try:
            self.show(self.newest, stage_no=STAGES.index(self.run.state) + 1)
        except LostLease:
            raise
        except Busy as error:
            log.warning("progress_not_stored", run_id=self.run.run_id, reason=str(error))

    def hold(self, progress: Mapping[str, Any] | None) -> None:
        """A heartbeat that nobody can cancel. Raises Busy."""
        if self.is_due():
            self.tell(progress or self.newest, stage_no=STAGES.index("training") + 1)

    def is_due(self) -> bool:
        return time.monotonic() - self.shown_at >= 1.0

    def show(self, progress: Mapping[str, Any], *, stage_no: int) -> None:
        if self.tell(progress, stage_no=stage_no):
            raise CancelledRun("cancelled by an admin")

    def tell(self, progress: Mapping[str, Any], *, stage_no: int) -> bool:
        """Store what people see and hold the lease; True if somebody asked to cancel. Raises LostLease."""
        shown = {**progress, "stage": STAGES[stage_no - 1], "stage_no": stage_no, "stages": len(STAGES)}
        self.shown_at = time.monotonic()
        return self.ledger.runs.report_progress(self.run, shown, lease_s=LEASE_S)

    def note(self, stage: str, began: float, text: str, data: Mapping[str, Any] | None = None) -> None:
        seconds = time.monotonic() - began
        more = {**(data or {}), "seconds": round(seconds, 1)}
        self.ledger.runs.note(self.run.run_id, stage, f"{text} ({seconds:.0f} s)", more)

    def give_up(self, state: RunState, error: str) -> Run:
        """End a run without a decision, and what it has begun elsewhere."""
        return self.close(state, error="; ".join(filter(None, (error, self.cancel_elsewhere()))))

    def close(self, state: RunState, *, error: str = "") -> Run:
        log.info("run_ended", run_id=self.run.run_id, state=state, error=error)
        self.run = self.ledger.runs.advance(self.run, state=state, lease_s=LEASE_S, error=error)
        if not self.goes_on_elsewhere:
            shutil.rmtree(self.checkpoints, ignore_errors=True)  # nothing resumes a run that has ended
        return self.run
