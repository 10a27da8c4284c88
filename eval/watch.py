"""The watch over a trial that is under way: may the rest of the suite be spared, because the verdict is certain?

Promises: it stops everything only for a loss that the gate, whatever the rest would have shown, will call lost, and the
rounds of choices only for what the gate will call kept. Each benchmark, and each round, is a look at one candidate; Holm's
first step pays for all proofs of a loss in advance, eval/sequential.py for the proofs that enough is kept. Knows the cards
that are whole and the policy.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from eval.comparing import compare_all
from eval.policy import GENERAL, Policy, needs_proof
from eval.wording import in_words
from storage.records import Comparison, Score, Scorecard


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Over one candidate: `base` and `champion` are the whole cards that it will be judged against."""

    base: Scorecard
    champion: Scorecard | None
    policy: Policy

    def verdict_is_certain(self, measured: Sequence[Score]) -> tuple[str, ...]:
        """Each proven loss among the scores so far, in words; empty: go on.

        What is not yet measured counts as not lost in Holm's correction, which can only become milder with it; so a loss
        that is proven now is proven on the whole card, and the gate refuses.
        """
        return tuple(in_words(c) for c in self._compared(measured) if c.gates and c.state == "lost")

    def enough_is_proven(self, measured: Sequence[Score], on_trial: Collection[str]) -> bool:
        """Whether all that is asked in rounds is proven kept at this look: each of these benchmarks, their wholes and
        the pool. One that is unknown is not; one that need not be certified is asked for nothing."""
        names = {*on_trial, *(name.partition(".")[0] for name in on_trial), GENERAL}
        asked = [c for c in self._compared(measured) if c.gates and c.benchmark in names and not needs_proof(c)]
        return all(c.state in ("kept", "gain") for c in asked)

    def _compared(self, measured: Sequence[Score]) -> tuple[Comparison, ...]:
        so_far = replace(self.base, adapter_digest="on trial", scores=tuple(measured))
        return compare_all(self.base, self.champion, so_far, self.policy)
