"""Support itself: how likely the approved answers of the holdout are, and how near the generated ones come to them.

Two benchmarks under one name: the likelihood needs one pass and is what the gate asks to rise; the generated answers
are what a customer would read. Lessons of one conversation are one cluster.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from eval.benchmark import Answerer, Benchmark, Measured, Tell, draw
from eval.doubt import CONFIDENCE
from eval.lm import answer_log_likelihoods, answers_to
from eval.metrics import (
    accuracy,
    bits_per_byte,
    corpus_bleu,
    corpus_chrf,
    exact_match,
    macro_f1,
    rouge_l,
    sentence_bleu,
    sentence_chrf,
    signatures,
    token_f1,
)
from eval.spread import jackknife_stderr
from eval.topics import Topics, has_topics
from storage.digests import digest_of
from storage.records import ItemScore, Lesson

NAME = "support"
ANSWER_METRICS = ("rouge_l", "exact_match", "f1", "bleu", "chrf", CONFIDENCE)
TOPIC_METRICS = ("topic_acc", "macro_f1")


def target_benchmarks(
    holdout: Sequence[Lesson], train: Sequence[Lesson], *, items: int, generations: int, max_new_tokens: int, seed: int
) -> tuple[Benchmark, ...]:
    """Likelihood of `items` approved answers, and `generations` answers in full. Training lessons only name topics."""
    pool = _pool(holdout)
    read = [pool[i] for i in draw(len(pool), items, seed=seed, name=NAME)]
    said = [pool[i] for i in draw(len(pool), generations, seed=seed, name=NAME)]
    return _likelihood(read), _answers(said, train, max_new_tokens)


def answered(
    answerer: Answerer, lessons: Sequence[Lesson], *, count: int, max_new_tokens: int, seed: int, tell: Tell
) -> list[tuple[Lesson, str]]:
    """The held-out lessons that are answered in full, and what this answerer says."""
    pool = _pool(lessons)
    said = [pool[i] for i in draw(len(pool), count, seed=seed, name=NAME)]
    texts = answers_to(answerer, (lesson.messages for lesson in said), max_new_tokens=max_new_tokens, tell=tell)
    return [(lesson, one.text) for lesson, one in zip(said, texts, strict=True)]


def _pool(holdout: Sequence[Lesson]) -> list[Lesson]:
    return sorted((lesson for lesson in holdout if lesson.answer.strip()), key=lambda lesson: lesson.lesson_id)


def _likelihood(lessons: Sequence[Lesson]) -> Benchmark:
    return Benchmark(
        name=f"{NAME}: approved answers",
        domain="target",
        expects=((NAME, "bits_per_byte"),),
        digest=digest_of(["likelihood", [_named(lesson) for lesson in lessons]]),
        cost=sum(len(lesson.answer) + sum(len(m["content"]) for m in lesson.messages) for lesson in lessons),
        measure=partial(_measure_likelihood, lessons),
    )


def _named(lesson: Lesson) -> list[object]:
    return [lesson.lesson_id, lesson.conversation_id, list(lesson.messages), lesson.answer, lesson.category]


def _measure_likelihood(lessons: Sequence[Lesson], answerer: Answerer, tell: Tell) -> Iterator[Measured]:
    sums = answer_log_likelihoods(answerer, [(lesson.messages, lesson.answer) for lesson in lessons], tell)
    values = [bits_per_byte(-value, lesson.answer) for value, lesson in zip(sums, lessons, strict=True)]
    yield Measured(
        benchmark=NAME, metric="bits_per_byte", items=_items(lessons, values), direction="lower", unit="bits/byte"
    )


def _answers(lessons: Sequence[Lesson], train: Sequence[Lesson], max_new_tokens: int) -> Benchmark:
    topics = sorted((lesson.category, lesson.answer) for lesson in train) if has_topics(train, lessons) else []
    return Benchmark(
        name=f"{NAME}: generated answers",
        domain="target",
        expects=tuple((NAME, metric) for metric in (*ANSWER_METRICS, *(TOPIC_METRICS if topics else ()))),
        digest=digest_of(["answers", max_new_tokens, signatures(), topics, [_named(lesson) for lesson in lessons]]),
        cost=len(lessons) * max_new_tokens * 20,
        measure=partial(_measure_answers, lessons, train if topics else (), max_new_tokens),
    )


def _measure_answers(
    lessons: Sequence[Lesson], train: Sequence[Lesson], max_new_tokens: int, answerer: Answerer, tell: Tell
) -> Iterator[Measured]:
    if len(lessons) < 2:
        raise ValueError(f"{len(lessons)} held-out lessons; at least 2 are needed")
    said = answers_to(answerer, (lesson.messages for lesson in lessons), max_new_tokens=max_new_tokens, tell=tell)
    answers = [one.text for one in said]
    yield replace(_by_item("rouge_l", lessons, answers, rouge_l), said=tuple(answers))
    yield _by_item("exact_match", lessons, answers, exact_match)
    yield _by_item("f1", lessons, answers, token_f1)
    yield _by_corpus("bleu", lessons, answers, sentence_bleu, corpus_bleu)
    yield _by_corpus("chrf", lessons, answers, sentence_chrf, corpus_chrf)
    sure = [math.nan if one.confidence is None else one.confidence for one in said]
    yield Measured(benchmark=NAME, metric=CONFIDENCE, items=_items(lessons, sure), unit="nats/token")
    if train:
        yield from _by_topic(lessons, answers, train)


def _by_item(
    metric: str, lessons: Sequence[Lesson], answers: Sequence[str], of: Callable[[str, str], float]
) -> Measured:
    values = [of(lesson.answer, answer) for lesson, answer in zip(lessons, answers, strict=True)]
    return Measured(benchmark=NAME, metric=metric, items=_items(lessons, values))


def _by_corpus(
    metric: str,
    lessons: Sequence[Lesson],
    answers: Sequence[str],
    of_one: Callable[[str, str], float],
    of_all: Callable[[Sequence[str], Sequence[str]], float],
) -> Measured:
    """A number over all answers at once; its items, which are paired in comparisons, are the sentences' numbers."""
    wanted = [lesson.answer for lesson in lessons]
    values = [of_one(lesson.answer, answer) for lesson, answer in zip(lessons, answers, strict=True)]
    return Measured(
        benchmark=NAME,
        metric=metric,
        unit="points",
        signature=signatures()[metric],
        items=_items(lessons, values),
        value=of_all(wanted, answers),
        stderr=jackknife_stderr(
            lambda at: of_all([wanted[i] for i in at], [answers[i] for i in at]), _clusters(lessons)
        ),
    )


def _by_topic(lessons: Sequence[Lesson], answers: Sequence[str], train: Sequence[Lesson]) -> Iterator[Measured]:
    """Over the holdout lessons whose topic training knows. Guessing gives one in so many topics."""
    topics = Topics(train)
    known = [
        (lesson, answer) for lesson, answer in zip(lessons, answers, strict=True) if lesson.category in topics.names
    ]
    judged, truth = [lesson for lesson, _ in known], [lesson.category for lesson, _ in known]
    said = topics.of([answer for _, answer in known])
    items = _items(judged, [float(t == s) for t, s in zip(truth, said, strict=True)])
    yield Measured(
        benchmark=NAME, metric="topic_acc", items=items, value=accuracy(truth, said), chance=1 / len(topics.names)
    )
    stderr = jackknife_stderr(lambda at: macro_f1([truth[i] for i in at], [said[i] for i in at]), _clusters(judged))
    yield Measured(benchmark=NAME, metric="macro_f1", items=items, value=macro_f1(truth, said), stderr=stderr)


def _items(lessons: Sequence[Lesson], values: Sequence[float]) -> tuple[ItemScore, ...]:
    return tuple(
        ItemScore(item_id=lesson.lesson_id, cluster=lesson.conversation_id, value=value)
        for lesson, value in zip(lessons, values, strict=True)
    )


def _clusters(lessons: Sequence[Lesson]) -> list[str]:
    return [lesson.conversation_id for lesson in lessons]
