"""An operator's own benchmarks: a task file and its rows in DATA_DIR/tasks, offline, and clear when broken."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.engine.model import Generation, LoadedModel
from eval.benchmark import Answerer, Deal, asked
from eval.local_tasks import RESERVED, local_benchmark, local_tasks
from eval.policy import GENERAL
from eval.suite import plan_from
from eval.target import NAME
from storage.errors import ConfigurationError
from storage.settings import Settings

MEAN = "aggregation: mean, higher_is_better: true"
CHOICE = (
    "task: house_rules\ndataset_path: json\ndataset_kwargs: {data_files: {test: rules.jsonl}}\ntest_split: test\n"
    "output_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_target: gold\ndoc_to_choice: options\n"
    f"metric_list: [{{metric: acc, {MEAN}}}]\n"
)
WRITTEN = (
    "task: house_words\ndataset_path: json\ndataset_kwargs: {data_files: {test: rules.jsonl}}\ntest_split: test\n"
    "output_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{options[gold]}}'\n"
    f"generation_kwargs: {{until: ['.'], max_gen_toks: 4}}\nmetric_list: [{{metric: exact_match, {MEAN}}}]\n"
)


@pytest.fixture
def theirs(small: Settings) -> Settings:
    rows = [
        {"id": f"rule-{i}", "q": f"May guests bring {i} dogs?", "options": ["yes", "no", "ask"], "gold": i % 3, "cluster": f"c{i // 2}"}
        for i in range(10)
    ]  # fmt: skip
    put(small, "rules.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    put(small, "house_rules.yaml", CHOICE)
    put(small, "house_words.yaml", WRITTEN)
    return small


def put(settings: Settings, name: str, text: str) -> Path:
    settings.tasks_dir.mkdir(parents=True, exist_ok=True)
    path = settings.tasks_dir / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("name", "metrics"), [("house_rules", ["acc", "p_correct"]), ("house_words", ["exact_match"])])
def test_their_task_is_measured_like_ours(
    name: str, metrics: list[str], theirs: Settings, tiny_model: LoadedModel
) -> None:
    benchmark = local_benchmark(local_tasks(theirs)[name], Deal(items=6, seed=1))

    found = list(benchmark.measure(Answerer(model=tiny_model, adapter=None), lambda *_: None))

    assert [m.metric for m in found] == metrics
    assert all(len(m.items) == 6 for m in found)
    assert {i.item_id.split("-")[0] for i in found[0].items} == {"rule"}
    assert {i.cluster for i in found[0].items} <= {f"c{n}" for n in range(5)}


def test_a_written_task_of_theirs_begins_with_the_served_system_prompt(
    theirs: Settings, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[int]] = []

    def generate(prompts: Sequence[Sequence[int]], **_: Any) -> list[Generation]:
        given.extend(map(list, prompts))
        return [Generation(ids=(), text="", finished=True, confidence=None) for _ in prompts]

    monkeypatch.setattr(tiny_model, "generate", generate)
    benchmark = local_benchmark(local_tasks(theirs)["house_words"], Deal(items=10, seed=1))

    list(benchmark.measure(Answerer(model=tiny_model, adapter=None), lambda *_: None))

    questions = (asked("Be brief.", f"May guests bring {i} dogs?") for i in range(10))
    assert given == [list(tiny_model.renderer.prompt(messages)) for messages in questions]


def test_only_what_is_written_is_another_measurement_under_another_system_prompt(theirs: Settings) -> None:
    other = theirs.model_copy(update={"system_prompt": "Other."})
    names = ("house_rules", "house_words", "arc_easy", "languages", "arithmetic")

    changed = [
        name
        for name in names
        if len({local_benchmark(local_tasks(s)[name], Deal(items=10, seed=1)).digest for s in (theirs, other)}) > 1
    ]

    assert changed == ["house_words"]


def test_it_is_named_like_any_other_and_has_the_same_digest_in_every_process(theirs: Settings) -> None:
    settings = theirs.model_copy(update={"general_tasks": ("house_rules", "arc_easy")})

    plans = [plan_from(settings) for _ in range(2)]

    assert ("house_rules", "p_correct") in plans[0].expects
    assert plans[0].digest == plans[1].digest


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("bad.yaml", "task: [unclosed\n", r"bad\.yaml cannot be read: .*line"),
        ("bad.yaml", "task: nothing_else\n", r"bad\.yaml needs task, output_type and dataset_kwargs"),
        ("bad.yaml", "- a list\n", r"bad\.yaml needs task"),
        (
            "bad.yaml",
            CHOICE.replace("house_rules", "arc_easy"),
            r"arc_easy is the name of a benchmark that Evenkeel has",
        ),
        ("bad.yaml", CHOICE.replace("house_rules", "house.rules"), r"house\.rules has a dot.*call it house_rules"),
        ("rules.jsonl", '{"id": "a"}\nno json\n', r"rules\.jsonl, line 2: no JSON"),
        ("rules.jsonl", '{"q": "no id"}\n', r"rules\.jsonl, line 1: no object with an id"),
    ],
)
def test_a_broken_file_is_named(file: str, text: str, said: str, theirs: Settings) -> None:
    put(theirs, file, text)

    with pytest.raises(ConfigurationError, match=said):
        plan_from(theirs.model_copy(update={"general_tasks": ("house_rules",)}))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_task_takes_the_name_of_a_benchmark_of_ours(name: str, theirs: Settings) -> None:
    put(theirs, "bad.yaml", CHOICE.replace("house_rules", name))

    with pytest.raises(ConfigurationError, match=f"{name} is the name of a benchmark that Evenkeel has"):
        local_tasks(theirs)


def test_every_name_of_ours_is_reserved(theirs: Settings) -> None:
    """Scores that the task files of the project do not make are those of eval/own.py, the target and the pool."""
    made = {
        *(name.partition(".")[0] for name, _ in plan_from(theirs).expects),
        *(benchmark.name for benchmark in plan_from(theirs).general),
    }

    assert made - set(local_tasks(theirs)) | {NAME, GENERAL} == RESERVED


def test_rows_that_are_not_there_are_named(theirs: Settings) -> None:
    (theirs.tasks_dir / "rules.jsonl").unlink()

    with pytest.raises(ConfigurationError, match=r"rules\.jsonl cannot be read"):
        plan_from(theirs.model_copy(update={"general_tasks": ("house_rules",)}))


def test_rows_without_what_the_task_file_reads_are_named(theirs: Settings) -> None:
    put(theirs, "rules.jsonl", '{"id": "a", "q": "What?"}\n{"id": "b", "q": "Who?"}\n')

    with pytest.raises(ConfigurationError, match=r"house_rules .*rules\.jsonl"):
        plan_from(theirs.model_copy(update={"general_tasks": ("house_rules",)}))
