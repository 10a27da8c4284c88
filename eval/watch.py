"""The watch over a trial that is under way: may the rest of the suite be spared, because the verdict is certain?

Promise: it stops only for a loss that the gate, whatever the rest would have shown, will call lost. Each benchmark is a
look at one candidate; Holm's first step pays for all of them in advance. Knows the cards that are whole and the policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eval.comparing import compare_all
from eval.policy import Policy
from eval.wording import in_words
from storage.records import Score, Scorecard


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
        so_far = replace(self.base, adapter_digest="on trial", scores=tuple(measured))
        compared = compare_all(self.base, self.champion, so_far, self.policy)
        return tuple(in_words(c) for c in compared if c.gates and c.state == "lost")
