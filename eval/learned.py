"""What a correction changed: does the candidate now say what a person had written in place of the bot's answer?

It shows what was learned, not how well that carries over: these very corrections may have been trained on. The holdout
is where the second is measured. Knows an answerer and corrections; knows no Slack.
"""

from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from eval.benchmark import Answerer
from eval.metrics import rouge_l
from storage.learned import Corrected
from storage.ledger import Ledger

PASSES_AT, GAINS = 0.5, 0.15
NEWEST, PER_AUTHOR = 40, 10
TIME_S = 60.0
TOGETHER = 8


def check_corrections(
    answerer: Answerer, ledger: Ledger, *, max_new_tokens: int, now: Callable[[], float] = monotonic
) -> tuple[int, int]:
    """(passed, checked) of the newest standing corrections, each kept in the ledger; newest first until time is up.

    The answerer is asked greedily what the bot was asked. Costs nothing without corrections. Questions that no longer
    fit the base's context are left out.
    """
    assert answerer.adapter is not None
    waiting = ledger.learned.unchecked(answerer.adapter, newest=NEWEST, per_author=PER_AUTHOR)
    passed = checked = 0
    for correction, said in _answered(answerer, waiting, max_new_tokens, now):
        similarity = rouge_l(correction.text, said)
        good = passes(similarity, before=rouge_l(correction.text, correction.before))
        ledger.learned.keep(correction.correction_id, answerer.adapter, passed=good, similarity=similarity)
        passed, checked = passed + good, checked + 1
    return passed, checked


def passes(similarity: float, *, before: float) -> bool:
    """Near enough to the correction (ROUGE-L of at least `PASSES_AT`), or nearer by `GAINS` than the answer that was
    corrected had been: a long correction is rarely repeated word by word.
    """
    return similarity >= PASSES_AT or similarity - before >= GAINS


def _answered(
    answerer: Answerer, corrections: Sequence[Corrected], max_new_tokens: int, now: Callable[[], float]
) -> Iterator[tuple[Corrected, str]]:
    """Each correction with what is said now. The first is asked alone: its seconds say how many more fit into TIME_S."""
    model = answerer.model
    prompts = [(c, model.renderer.prompt(c.messages)) for c in corrections]
    waiting = [(c, prompt) for c, prompt in prompts if len(prompt) + max_new_tokens <= model.context]
    until, room = now() + TIME_S, 1
    while waiting and room:
        group, waiting = waiting[:room], waiting[room:]
        began = now()
        said = model.generate([prompt for _, prompt in group], adapter=answerer.adapter, max_new_tokens=max_new_tokens)
        yield from ((c, one.text) for (c, _), one in zip(group, said, strict=True))
        each = max((now() - began) / len(group), 1e-6)
        room = min(TOGETHER, int(max(until - now(), 0.0) / each))
