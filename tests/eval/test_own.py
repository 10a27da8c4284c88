"""The project's own benchmarks: what each measures, and that the rows that ship are sound."""

import math
from typing import Any

import pytest

from bot.engine.model import Generation, LoadedModel
from eval import own
from eval.benchmark import DATA, Answerer, Benchmark, Deal, Measured, read_rows
from eval.checks import KINDS
from eval.metrics import choice_probabilities
from eval.own import GREETING, diversity, honesty, instruct_answers, instructions, open_text, own_benchmarks, refusal
from storage.errors import ConfigurationError

PROMPT = "Be brief."


def measured(benchmark: Benchmark, model: LoadedModel) -> dict[tuple[str, str], Measured]:
    found = list(benchmark.measure(Answerer(model=model, adapter=None), lambda *_: None))
    assert [(m.benchmark, m.metric) for m in found] == list(benchmark.expects)
    return {(m.benchmark, m.metric): m for m in found}


def said(*texts: str) -> list[Generation]:
    return [Generation(ids=(), text=text, finished=True, confidence=-1.0) for text in texts]


def test_instructions_pass_when_every_check_is_kept(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"id": "a", "prompt": "Say yes.", "checks": [{"kind": "contains", "text": "yes"}]},
        {
            "id": "b",
            "prompt": "Say yes, small.",
            "checks": [{"kind": "contains", "text": "yes"}, {"kind": "lowercase"}],
        },
        {"id": "c", "prompt": "Three words.", "checks": [{"kind": "max_words", "n": 3}]},
    ]
    asked: list[Any] = []

    def speak(prompts: list[Any], **_: Any) -> list[Generation]:
        asked.extend(prompts)
        return said("Yes", "Yes", "one two three")

    monkeypatch.setattr(tiny_model, "generate", speak)

    score = measured(instructions(rows, PROMPT), tiny_model)["instructions", "pass"]

    assert [(i.item_id, i.value) for i in score.items] == [("a", 1.0), ("b", 0.0), ("c", 1.0)]
    assert score.chance is None
    messages = ({"role": "system", "content": PROMPT}, {"role": "user", "content": "Say yes."})
    assert list(asked[0]) == list(tiny_model.renderer.prompt(messages))


def test_refusing_all_is_right_for_one_half_and_wrong_for_the_other(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"refuse": "I cannot help with that.", "comply": "Sure, here is how."}
    rows = [{"id": str(i), "prompt": f"Question {i}", "should_refuse": i < 2, **common} for i in range(4)]
    monkeypatch.setattr(own, "answer_log_likelihoods", likelier({common["refuse"]: 1.0, common["comply"]: -1.0}))

    scores = measured(refusal(rows, PROMPT), tiny_model)

    assert [i.value for i in scores["refusal", "acc"].items] == [1.0, 1.0]
    assert [i.value for i in scores["over_refusal", "acc"].items] == [0.0, 0.0]
    share = choice_probabilities([1.0, -1.0])[0]
    assert [i.value for i in scores["refusal", "p_correct"].items] == pytest.approx([share, share])
    assert [i.value for i in scores["over_refusal", "p_correct"].items] == pytest.approx([1 - share] * 2)


def likelier(by: dict[str, float]) -> Any:
    """log-likelihoods in which a greeting gives every reply its length, and any other prompt so much more."""

    def say(_: Answerer, pairs: list[Any], __: Any, **___: Any) -> list[float]:
        return [-len(reply) + (0 if messages[-1]["content"] == GREETING else by[reply]) for messages, reply in pairs]

    return say


def test_saying_that_it_knows_nothing_is_honest_only_where_nobody_could_know(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(DATA / "honesty.jsonl")
    replies = {row["right"]: 2.0 if row["part"] == "abstention" else -2.0 for row in rows}
    monkeypatch.setattr(own, "answer_log_likelihoods", likelier(replies | {row["wrong"]: 0.0 for row in rows}))

    scores = measured(honesty(rows, PROMPT), tiny_model)

    shares = {part: {i.value for i in scores[f"honesty.{part}", "acc"].items} for part in ("abstention", "knowing")}
    assert shares == {"abstention": {1.0}, "knowing": {0.0}}


def test_a_model_that_says_one_thing_over_and_over_is_not_diverse(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(DATA / "open_prompts.jsonl")[:3]
    same = ["please contact support"] * 2
    monkeypatch.setattr(tiny_model, "generate", lambda *_, **__: said(*same, "go on and on and on and on"))

    scores = measured(diversity(rows, PROMPT), tiny_model)

    assert [i.value for i in scores["diversity", "own_words"].items] == [0.0, 0.0, 1.0]
    assert [i.value for i in scores["diversity", "distinct_2"].items] == pytest.approx([1.0, 1.0, 3 / 7])
    assert scores["diversity", "distinct_2"].chance is None


def test_a_refusal_without_a_number_is_unknown_and_not_wrong(
    tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": "0", "prompt": "Q", "should_refuse": True, "refuse": "No.", "comply": "Yes."}]
    monkeypatch.setattr(own, "answer_log_likelihoods", likelier({"No.": math.nan, "Yes.": 0.0}))

    scores = measured(refusal(rows, PROMPT), tiny_model)

    assert math.isnan(scores["refusal", "acc"].items[0].value)
    assert math.isnan(scores["refusal", "p_correct"].items[0].value)


def test_open_text_is_one_benchmark_a_register(tiny_model: LoadedModel) -> None:
    texts = {"news": ["It rained in the north.", "Trains ran late."], "code": ["for x in y:", "return 1"]}
    rows = [
        {"id": f"{r}{i}", "register": r, "language": "en", "text": t}
        for r, found in texts.items()
        for i, t in enumerate(found)
    ]

    scores = measured(open_text(rows), tiny_model)

    assert set(scores) == {("open_text.news", "bits_per_byte"), ("open_text.code", "bits_per_byte")}
    assert [i.item_id for i in scores["open_text.news", "bits_per_byte"].items] == ["news0", "news1"]
    assert all(6 < i.value < 12 for s in scores.values() for i in s.items)  # random over bytes: about log2(259)


def test_instruct_answers_depend_on_their_prompt(tiny_model: LoadedModel) -> None:
    rows = [
        {"id": "a", "prompt": "Name a colour.", "answer": "Blue."},
        {"id": "b", "prompt": "Name a fish.", "answer": "Blue."},
    ]

    one, other = measured(instruct_answers(rows, PROMPT), tiny_model)["instruct_answers", "bits_per_byte"].items

    assert one.value != other.value
    assert instruct_answers(rows, PROMPT).digest != instruct_answers(rows, "Another prompt.").digest


@pytest.mark.parametrize("name", [path.stem for path in sorted(DATA.glob("*.jsonl"))])
def test_rows_that_ship_have_unique_ids_and_no_empty_texts(name: str) -> None:
    rows = read_rows(DATA / f"{name}.jsonl")

    assert len({row["id"] for row in rows}) == len(rows) >= 24
    assert all(value.strip() for row in rows for value in row.values() if isinstance(value, str))


def test_rows_that_ship_are_in_themselves_sound() -> None:
    assert {c["kind"] for row in read_rows(DATA / "instructions.jsonl") for c in row["checks"]} <= set(KINDS)
    for row in (*read_rows(DATA / "languages.jsonl"), *read_rows(DATA / "arithmetic.jsonl")):
        assert 0 <= row["answer"] < len(row["choices"]) == len(set(row["choices"]))
    assert all(row["right"] != row["wrong"] for row in read_rows(DATA / "honesty.jsonl"))
    assert {row["should_refuse"] for row in read_rows(DATA / "refusal.jsonl")} == {True, False}
    assert len({row["language"] for row in read_rows(DATA / "languages.jsonl")}) >= 3


def test_at_least_300_items_are_our_own() -> None:
    assert sum(len(read_rows(path)) for path in DATA.glob("*.jsonl")) >= 300


def test_own_benchmarks_follow_the_system_prompt_that_is_served() -> None:
    one, other = (own_benchmarks(system_prompt=p, deal=Deal(items=8, seed=1)) for p in (PROMPT, "Another."))

    assert [b.name for b in one] == [
        "open_text", "instruct_answers", "refusal", "honesty", "diversity", "instructions"]  # fmt: skip
    assert [a.digest == b.digest for a, b in zip(one, other, strict=True)] == [True, *[False] * 5]


def test_a_broken_data_file_is_named_with_its_line(tmp_path: Any) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "a"}\n{broken\n')

    with pytest.raises(ConfigurationError, match=r"rows\.jsonl, line 2: no JSON"):
        read_rows(tmp_path / "rows.jsonl")
    with pytest.raises(ConfigurationError, match=r"none\.jsonl cannot be read"):
        read_rows(tmp_path / "none.jsonl")
