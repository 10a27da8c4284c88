"""The target: likelihood of approved answers, nearness and topic of generated ones."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bot.engine.model import Generation, LoadedModel
from eval.benchmark import Answerer, Measured
from eval.metrics import bits_per_byte, corpus_bleu
from eval.target import target_benchmarks
from eval.topics import NOTHING, Topics, has_topics
from storage.records import Lesson

Make = Callable[[str, int], tuple[Lesson, ...]]


def parrot(monkeypatch: pytest.MonkeyPatch, answers: Callable[[int], str]) -> None:
    """Answers that a test chooses instead of the model's, the later the less sure."""

    def speak(_: LoadedModel, prompts: list[list[int]], **__: Any) -> list[Generation]:
        return [Generation(ids=(), text=answers(i), finished=True, confidence=-1.0 - i) for i in range(len(prompts))]

    monkeypatch.setattr(LoadedModel, "generate", speak)


def measured(holdout: Any, train: Any, model: LoadedModel, *, which: int) -> dict[str, Measured]:
    line = target_benchmarks(holdout, train, items=8, generations=6, max_new_tokens=8, seed=1)
    found: Iterator[Measured] = iter(line[which].measure(Answerer(model=model, adapter=None), lambda *_: None))
    scores = {m.metric: m for m in found}
    assert [("support", metric) for metric in scores] == list(line[which].expects)
    return scores


def test_approved_answers_are_scored_in_bits_per_byte_and_clustered_by_conversation(
    tiny_model: LoadedModel, lessons: Make
) -> None:
    holdout = lessons("h", 6)

    score = measured(holdout, (), tiny_model, which=0)["bits_per_byte"]

    assert (score.direction, score.unit) == ("lower", "bits/byte")
    assert {i.cluster for i in score.items} == {"h-0", "h-1", "h-2"}
    first = next(lesson for lesson in holdout if lesson.lesson_id == score.items[0].item_id)
    ids, mask = tiny_model.renderer.example(first.messages, first.answer)
    (row,) = tiny_model.log_probs([ids], adapter=None)
    nll = -sum(float(row[i - 1]) for i in range(1, len(ids)) if mask[i])
    assert score.items[0].value == pytest.approx(bits_per_byte(nll, first.answer), abs=1e-4)


def test_the_right_answers_word_for_word_are_perfect(
    tiny_model: LoadedModel, lessons: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    holdout = lessons("h", 6)
    parrot(monkeypatch, lambda i: holdout[i].answer)

    scores = measured(holdout, lessons("t", 9), tiny_model, which=1)

    assert {m: s.value for m, s in scores.items() if s.value is not None} == pytest.approx(
        {"bleu": 100.0, "chrf": 100.0, "topic_acc": 1.0, "macro_f1": 1.0}
    )
    assert {i.value for metric in ("rouge_l", "exact_match", "f1") for i in scores[metric].items} == {1.0}
    assert scores["bleu"].signature.startswith("nrefs:1|case:mixed|") and "version:" in scores["chrf"].signature
    assert scores["topic_acc"].chance == pytest.approx(1 / 3)


def test_corpus_numbers_keep_sentence_numbers_as_items(
    tiny_model: LoadedModel, lessons: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    holdout = lessons("h", 6)
    parrot(monkeypatch, lambda i: holdout[i].answer if i % 2 else "Something else entirely.")

    bleu = measured(holdout, (), tiny_model, which=1)["bleu"]

    said = [lesson.answer if i % 2 else "Something else entirely." for i, lesson in enumerate(holdout)]
    assert bleu.value == pytest.approx(corpus_bleu([lesson.answer for lesson in holdout], said))
    assert len(bleu.items) == 6 and {round(i.value) for i in bleu.items} >= {100}
    assert bleu.stderr is not None and bleu.stderr > 0


def test_an_answer_about_the_wrong_thing_is_the_wrong_topic(lessons: Make) -> None:
    topics = Topics(lessons("t", 9))

    assert topics.of(["Please reset your password and log in.", "The invoice is ready.", "xyzzy"]) == [
        "login",
        "billing",
        NOTHING,
    ]


def test_topics_do_not_depend_on_the_order_of_lessons(lessons: Make) -> None:
    train, asked = lessons("t", 9), ["mail and password", "invoice or mail"]

    assert Topics(train).of(asked) == Topics(train[::-1]).of(asked)


def test_topics_are_left_out_where_training_names_fewer_than_two(tiny_model: LoadedModel, lessons: Make) -> None:
    one = tuple(lesson for lesson in lessons("t", 9) if lesson.category == "mail")

    assert not has_topics(one, lessons("h", 6))
    assert "topic_acc" not in measured(lessons("h", 6), one, tiny_model, which=1)
    with pytest.raises(ValueError, match="at least 2 categories"):
        Topics(one)


def test_the_same_lessons_in_another_order_are_the_same_measurement(lessons: Make) -> None:
    size = {"items": 5, "generations": 3, "max_new_tokens": 8, "seed": 1}
    holdout, train = lessons("h", 9), lessons("t", 9)

    one = target_benchmarks(holdout, train, **size)
    other = target_benchmarks(holdout[::-1], train[::-1], **size)
    more = target_benchmarks(holdout, train, **{**size, "max_new_tokens": 16})

    assert [b.digest for b in one] == [b.digest for b in other]
    assert one[0].digest == more[0].digest and one[1].digest != more[1].digest
