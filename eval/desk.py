"""The desk: one answerer and the benchmarks that it is asked, measured in a fair order and kept.

Promises: what was measured once under a key is never measured again; a benchmark that crashes, stands still or gives no
numbers is missing with its reason, never zero. A candidate is asked its choices in rounds, a slice of each benchmark per
round, and no more of them than its watch needs; a run that was cut off goes on after the last round that it had finished.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from bot.engine.model import LoadedModel
from eval.benchmark import Answerer, Benchmark, Measure, Measured
from eval.deadline import moving
from eval.hosted import HostedModel
from eval.joining import joined
from eval.metrics import finite
from eval.said import keep_said
from eval.sequential import LOOKS
from eval.spread import clustered_stderr, mean
from eval.watch import Watch
from storage.digests import digest_of
from storage.ledger import Ledger
from storage.records import Score

WAY = 2  # grows when the same rows would get other numbers: what was measured the older way is measured anew
Progress = Callable[[int, int, str], None]  # (done, total, text); what it raises stops the scoring
Scores = tuple[Score, ...]


class _Stop(BaseException):
    """Carries what the caller's own progress function raised past the net that catches a benchmark's faults."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class Desk:
    """One answerer on trial: looks scores up, measures what is unknown, tells how far it is."""

    def __init__(self, answerer: Answerer, ledger: Ledger, progress: Progress, total: int, run_id: int | None) -> None:
        self.answerer, self.ledger, self.progress = answerer, ledger, progress
        self.total, self.done, self.run_id = total, 0, run_id
        self.faults: list[str] = []
        self.watch: Watch | None = None
        self.anew: tuple[str, ...] = ()  # whose measurement this is where nothing that was known counts
        self.dataset: Path | None = None  # whose folder keeps what is said; None: nobody wants to read it
        self.seen: Scores = ()
        self.certain: tuple[str, ...] = ()

    def line(self, benchmarks: Sequence[Benchmark]) -> Scores:
        """All their scores in their order, the cheap ones measured first; raises what the caller's progress raised."""
        try:
            found = dict(self._found(sorted(benchmarks, key=lambda b: b.cost)))
        except _Stop as stop:
            raise stop.reason from None
        return tuple(one for benchmark in benchmarks for one in found[benchmark.name])

    def _found(self, benchmarks: Sequence[Benchmark]) -> Iterator[tuple[str, Scores]]:
        """Each benchmark's scores by its name. A candidate's first is the target as it is read, so that each has a gain to show;
        before the rounds comes what is known and what is only read: text, which tells a ruined candidate soonest,
        and other choices, without which no round proves enough. What is written comes last."""
        if self.watch:
            benchmarks = sorted(benchmarks, key=lambda b: b.domain != "target" or not _is_read(b))
        known = {b.name for b in benchmarks if _is_whole(b, self._known(b))}
        in_rounds = [b for b in benchmarks if self.watch and b.rounds and b.name not in known]
        alone = [b for b in benchmarks if b not in in_rounds]
        before = [b for b in alone if in_rounds and (_is_read(b) or b.name in known)]
        yield from ((b.name, self.scores_of(b)) for b in before)
        yield from self._in_rounds(in_rounds).items()
        yield from ((b.name, self.scores_of(b)) for b in alone if b not in before)

    def scores_of(self, benchmark: Benchmark) -> Scores:
        """Looked up or measured whole; nothing any more once the watch has said that the verdict is certain."""
        if self.certain:
            return ()
        scores = self._known(benchmark)
        if not _is_whole(benchmark, scores):
            made = self._measured(benchmark, benchmark.measure, benchmark.cost)
            self._keep_said({self._key(benchmark, one): one for one, _ in made})
            scores = self._kept(_score(one, self._key(benchmark, one), benchmark, s) for one, s in made)
        self.done += benchmark.cost
        self._tell(benchmark, 1, 1, 0)
        self.seen += scores
        self._is_certain(self.seen)
        return scores

    # Rounds

    def _in_rounds(self, benchmarks: Sequence[Benchmark]) -> Mapping[str, Scores]:
        """The scores of these as they stood when a loss was certain, enough was proven, or all six slices were measured."""
        if self.certain or not benchmarks:
            return {b.name: () for b in benchmarks}
        look, start = 0, self.done
        found: dict[str, Scores] = {b.name: () for b in benchmarks}
        while not self._is_over(look, benchmarks, found):
            look += 1
            for b in benchmarks:
                found[b.name] = self._round(b, look, found[b.name])
        self.seen += tuple(one for scores in found.values() for one in scores)
        self.done = start + sum(b.cost for b in benchmarks)
        return found

    def _round(self, benchmark: Benchmark, look: int, before: Scores) -> Scores:
        """The scores so far with the slice of this look added; nothing of a benchmark that crashed, now or before."""
        if look > 1 and not before:
            return ()
        cost = benchmark.cost * look // LOOKS - benchmark.cost * (look - 1) // LOOKS
        scores = self._known(benchmark, look)
        if not _is_whole(benchmark, scores):
            so_far = {_name(one): one for one in before}
            made = self._measured(benchmark, benchmark.rounds[look - 1], cost)
            slices = [_score(one, self._key(benchmark, one, look), benchmark, s) for one, s in made]
            scores = self._kept(_added(one, so_far, look) for one in slices if look == 1 or _name(one) in so_far)
        self.done += cost
        self._tell(benchmark, 1, 1, 0)
        return scores

    def _is_over(self, look: int, benchmarks: Sequence[Benchmark], found: Mapping[str, Scores]) -> bool:
        """Whether nothing more of these need be asked; said in the run's history where that spares something."""
        if look == 0 or self.watch is None:
            return False
        measured = (*self.seen, *(one for scores in found.values() for one in scores))
        if self._is_certain(measured) or look == LOOKS:
            return True
        enough = self.watch.enough_is_proven(measured, {part for b in benchmarks for part, _ in b.expects})
        if enough:
            self.note(f"enough is proven after look {look} of {LOOKS}: the rest of the choices is spared")
        return enough

    def _is_certain(self, measured: Scores) -> bool:
        """Whether the gate will refuse whatever the rest would show."""
        if self.watch is not None:
            self.certain = self.watch.verdict_is_certain(measured)
            if self.certain:
                self.note(f"stopped early, the verdict is certain: {'; '.join(self.certain)}")
        return bool(self.certain)

    # What is known, and what is measured

    def _known(self, benchmark: Benchmark, look: int = 0) -> Scores:
        """What the ledger has of the whole hand, or of it as it stood at an earlier look."""
        keys = (self._key_of(benchmark, *pair, look) for pair in benchmark.expects)
        return tuple(one for key in keys if (one := self.ledger.scores.find(key)) is not None)

    def _key(self, benchmark: Benchmark, measured: Measured, look: int = 0) -> str:
        return self._key_of(benchmark, measured.benchmark, measured.metric, look)

    def _key_of(self, benchmark: Benchmark, name: str, metric: str, look: int) -> str:
        """Equal only for the same weights and number type, adapter, template, rows, prompts, settings, metric, way to
        compute it and part of the hand."""
        model = self.answerer.model
        whole = digest_of(
            [
                WAY,
                model.base_digest,
                self.answerer.adapter,
                model.renderer.template_digest,
                benchmark.digest,
                name,
                metric,
                *_number_type(model),
            ]
        )
        if self.anew:
            return digest_of([whole, "anew", *self.anew])
        return digest_of([whole, "look", look]) if 0 < look < LOOKS else whole

    def _measured(self, benchmark: Benchmark, measure: Measure, cost: int) -> list[tuple[Measured, float]]:
        """Whatever could be measured, with its seconds; whatever could not is told with its reason. The one place that
        swallows."""
        start = perf_counter()
        try:
            with moving(lambda done, total: self._tell(benchmark, done, total, cost)) as tell:
                measured = list(measure(self.answerer, tell))
        except Exception as error:
            self._fault(f"{benchmark.name} is missing: {type(error).__name__}: {error}")
            return []
        seconds = perf_counter() - start
        return [(one, seconds) for one in measured if not self._is_faulty(one)]

    def _kept(self, scores: Iterable[Score]) -> Scores:
        kept = tuple(scores)
        for one in kept:
            self.ledger.scores.add(
                one, base_digest=self.answerer.model.base_digest, adapter_digest=self.answerer.adapter
            )
        return kept

    def _keep_said(self, made: Mapping[str, Measured]) -> None:
        """The texts before the scores, since what has a score is never generated again. The numbers do not need them."""
        try:
            for key, one in made.items():
                if one.said and self.dataset:
                    texts = zip((item.item_id for item in one.items), one.said, strict=True)
                    keep_said(self.dataset, key, dict(texts))
        except OSError as error:
            self.note(f"what was said is not kept: {error}")

    def _is_faulty(self, measured: Measured) -> bool:
        reason = fault(measured)
        if reason:
            self._fault(f"{measured.benchmark} ({measured.metric}) is missing: {reason}")
        return bool(reason)

    # How it is told

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        self.note(text)

    def _tell(self, benchmark: Benchmark, done: int, total: int, cost: int) -> None:
        try:
            self.progress(self.done + cost * done // max(total, 1), self.total, f"{benchmark.name} {done}/{total}")
        except Exception as error:
            raise _Stop(error) from error

    def note(self, *texts: str) -> None:
        if self.run_id is not None:
            for text in texts:
                self.ledger.runs.note(self.run_id, "scoring", text)


def _number_type(model: LoadedModel | HostedModel) -> tuple[str, ...]:
    """Of a model in memory, where it is not float32, whose scores keep the keys that they always had; a server tells none."""
    if not isinstance(model, LoadedModel):
        return ()
    name = str(model.model.dtype).removeprefix("torch.")
    return () if name == "float32" else (name,)


def fault(measured: Measured) -> str:
    """Why these items are no score, or nothing."""
    if len(measured.items) < 2:
        return f"{len(measured.items)} items give no spread"
    broken = sum(not math.isfinite(item.value) for item in measured.items)
    if broken:
        return f"{broken} of {len(measured.items)} items are not numbers"
    return "" if finite(v for v in (measured.value, measured.stderr) if v is not None) else "its value is no number"


def _is_whole(benchmark: Benchmark, scores: Scores) -> bool:
    return len(scores) == len(benchmark.expects)


def _is_read(benchmark: Benchmark) -> bool:
    return any(metric in ("bits_per_byte", "p_correct") for _, metric in benchmark.expects)


def _name(score: Score) -> tuple[str, str]:
    return score.benchmark, score.metric


def _added(one: Score, so_far: Mapping[tuple[str, str], Score], look: int) -> Score:
    """A slice with those before it, as the score of this look."""
    before = so_far.get(_name(one))
    return replace(one, look=look) if before is None else joined(before, one, key=one.key, look=look)


def _score(measured: Measured, key: str, benchmark: Benchmark, seconds: float) -> Score:
    values, clusters = [item.value for item in measured.items], [item.cluster for item in measured.items]
    return Score(
        key=key,
        benchmark=measured.benchmark,
        metric=measured.metric,
        domain=benchmark.domain,
        direction=measured.direction,
        unit=measured.unit,
        value=mean(values) if measured.value is None else measured.value,
        stderr=clustered_stderr(values, clusters) if measured.stderr is None else measured.stderr,
        n=len(values),
        items=measured.items,
        chance=measured.chance,
        seconds=seconds,
        signature=measured.signature,
    )
