"""From the rows that a benchmark was published with to rows that our task files read, one function a benchmark.

Every row becomes {"id", "query", "choices", "answer", "cluster"}: the answer is the position of the right choice, the
cluster names what is not independent (a passage, a subject, twin sentences). A question without choices has all of its
right "answers" instead. The texts are those that lm-eval's own
tasks score, so that numbers can be compared. Knows rows, not files.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from storage.digests import digest_of, short

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a benchmark's rows lie in the wheel: every Arrow file under `folder` of the split `split`."""

    folder: str
    convert: Callable[[Iterable[Row]], Iterator[Row]]
    split: str = "validation"


def lettered(rows: Iterable[Row], *, question: str = "question") -> Iterator[Row]:
    """ARC, CommonsenseQA, OpenBookQA, basic arithmetic: texts with letters, and the letter of the right one."""
    for row in rows:
        letters, texts = row["choices"]["label"], row["choices"]["text"]
        yield _row(row["id"], row[question], texts, letters.index(row["answerKey"].strip()))


def open_book(rows: Iterable[Row]) -> Iterator[Row]:
    return lettered(rows, question="question_stem")


def hellaswag(rows: Iterable[Row]) -> Iterator[Row]:
    """WikiHow's bracketed artefacts are removed, as lm-eval does."""
    for row in rows:
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        endings = [_without_brackets(ending) for ending in row["endings"]]
        yield _row(f"hellaswag-{row['ind']}", _without_brackets(context), endings, int(row["label"]), row["source_id"])


def _without_brackets(text: str) -> str:
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def piqa(rows: Iterable[Row]) -> Iterator[Row]:
    """Physical common sense: two ways to a goal; solutions of one goal belong together."""
    for i, row in enumerate(rows):
        yield _row(f"piqa-{i}", row["goal"], [row["sol1"], row["sol2"]], int(row["label"]), _named(row["goal"]))


def winogrande(rows: Iterable[Row]) -> Iterator[Row]:
    """The choices are the two beginnings of the sentence, scored by the likelihood of its common `ending`."""
    for i, row in enumerate(rows):
        before, after = row["sentence"].split("_", 1)
        names = [row["option1"], row["option2"]]
        twins = "|".join(sorted(name.lower() for name in names))
        made = _row(f"winogrande-{i}", "", [before + name for name in names], int(row["answer"]) - 1, twins)
        yield made | {"ending": after.strip()}


def sciq(rows: Iterable[Row]) -> Iterator[Row]:
    """With its supporting passage, where there is one: a reading task. The right choice is the last."""
    for i, row in enumerate(rows):
        choices = [row["distractor1"], row["distractor2"], row["distractor3"], row["correct_answer"]]
        made = _row(f"sciq-{i}", row["question"], choices, 3, _named(row["support"]) if row["support"] else None)
        yield made | {"passage": row["support"].lstrip()}


def social_iqa(rows: Iterable[Row]) -> Iterator[Row]:
    for i, row in enumerate(rows):
        choices = [row["answerA"], row["answerB"], row["answerC"]]
        query = f"{row['context']} {row['question']}"
        yield _row(f"social_iqa-{i}", query, choices, int(row["label"]) - 1, _named(row["context"]))


def boolq(rows: Iterable[Row]) -> Iterator[Row]:
    for i, row in enumerate(rows):
        made = _row(f"boolq-{i}", row["question"], ["no", "yes"], int(row["answer"]), _named(row["passage"]))
        yield made | {"passage": row["passage"]}


def copa(rows: Iterable[Row]) -> Iterator[Row]:
    """The premise without its full stop, "because" or "therefore", and two continuations in lower case."""
    for row in rows:
        link = {"cause": "because", "effect": "therefore"}[row["question"]]
        choices = [text[0].lower() + text[1:] for text in (row["choice1"], row["choice2"])]
        yield _row(f"copa-{row['idx']}", f"{row['premise'].strip()[:-1]} {link}", choices, int(row["label"]))


def mmlu(rows: Iterable[Row]) -> Iterator[Row]:
    """57 subjects; questions of one subject belong together."""
    for i, row in enumerate(rows):
        yield _row(f"{row['subject']}-{i}", row["question"].strip(), row["choices"], int(row["answer"]), row["subject"])


def rte(rows: Iterable[Row]) -> Iterator[Row]:
    """Does the second text follow from the first? The right choice "True" is the first."""
    for row in rows:
        made = _row(
            f"rte-{row['idx']}", row["sentence2"], ["True", "False"], int(row["label"]), _named(row["sentence1"])
        )
        yield made | {"passage": row["sentence1"]}


def commitment_bank(rows: Iterable[Row]) -> Iterator[Row]:
    """Does the hypothesis follow from the passage, contradict it, or neither?"""
    for row in rows:
        choices = ["True", "False", "Neither"]
        made = _row(f"cb-{row['idx']}", row["hypothesis"], choices, int(row["label"]), _named(row["premise"]))
        yield made | {"passage": row["premise"]}


def sst2(rows: Iterable[Row]) -> Iterator[Row]:
    """What a sentence of a film review feels about the film."""
    for row in rows:
        yield _row(f"sst2-{row['idx']}", row["sentence"].strip(), ["negative", "positive"], int(row["label"]))


def mrpc(rows: Iterable[Row]) -> Iterator[Row]:
    """Do two sentences of the news mean the same?"""
    for row in rows:
        made = _row(f"mrpc-{row['idx']}", row["sentence2"], ["no", "yes"], int(row["label"]))
        yield made | {"passage": row["sentence1"]}


def nq_open(rows: Iterable[Row]) -> Iterator[Row]:
    """Questions that people asked a search engine, and every answer that counts."""
    for i, row in enumerate(rows):
        yield _asked(f"nq_open-{i}", row["question"], row["answer"])


def trivia_qa(rows: Iterable[Row]) -> Iterator[Row]:
    """Quiz questions, and every name of the answer."""
    for row in rows:
        yield _asked(f"trivia_qa-{row['question_id']}", row["question"].rstrip("?"), row["answer"]["aliases"])


def _asked(item_id: str, query: str, answers: list[str]) -> Row:
    """A question without choices. Raises ValueError when nothing would be right."""
    if not answers:
        raise ValueError(f"item {item_id} has no answer")
    return {"id": item_id, "query": query, "answers": list(answers), "cluster": item_id}


def _row(item_id: str, query: str, choices: list[str], answer: int, cluster: str | None = None) -> Row:
    """One row, its cluster itself where nothing else binds it. Raises ValueError for an answer outside the choices."""
    if not 0 <= answer < len(choices):
        raise ValueError(f"item {item_id}: the answer {answer} is not one of {len(choices)} choices")
    return {"id": item_id, "query": query, "choices": choices, "answer": answer, "cluster": cluster or item_id}


def _named(text: str) -> str:
    return short(digest_of(text))


ORIGINS: dict[str, Origin] = {
    "arc_easy": Origin(folder="ai2_arc/ARC-Easy", convert=lettered),
    "arc_challenge": Origin(folder="ai2_arc/ARC-Challenge", convert=lettered),
    "hellaswag": Origin(folder="hellaswag", convert=hellaswag),
    "piqa": Origin(folder="piqa", convert=piqa),
    "winogrande": Origin(folder="winogrande", convert=winogrande),
    "sciq": Origin(folder="sciq", convert=sciq),
    "openbookqa": Origin(folder="openbookqa", convert=open_book),
    "commonsense_qa": Origin(folder="tau/commonsense_qa", convert=lettered),
    "social_iqa": Origin(folder="social_i_qa", convert=social_iqa),
    "boolq": Origin(folder="boolq", convert=boolq),
    "copa": Origin(folder="super_glue/copa", convert=copa),
    "basic_arithmetic": Origin(folder="allenai/basic_arithmetic", convert=lettered),
    "rte": Origin(folder="glue/rte", convert=rte),
    "cb": Origin(folder="super_glue/cb", convert=commitment_bank),
    "sst2": Origin(folder="glue/sst2", convert=sst2),
    "mrpc": Origin(folder="glue/mrpc", convert=mrpc),
    "nq_open": Origin(folder="nq_open", convert=nq_open),
    "trivia_qa": Origin(folder="trivia_qa", convert=trivia_qa),
    "mmlu": Origin(folder="hails/mmlu_no_train", convert=mmlu, split="test"),
}
