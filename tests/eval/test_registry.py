"""Any task of lm-eval by its name: here lm-eval's own loading over task files in a temporary folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from bot.engine.model import Generation, LoadedModel
from eval import registry
from eval.benchmark import Answerer, Deal, Measured, asked
from eval.harness import run_tasks
from eval.lm import AnswererLM
from eval.registry import _load, _settings, registry_benchmark
from storage.digests import digest_of
from storage.errors import ConfigurationError, EvenkeelError

SYSTEM = "Be brief."
MEAN = "aggregation: mean, higher_is_better: true"
FILES = {
    "their_choice": (
        "output_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_target: gold\ndoc_to_choice: c\n"
        f"metric_list: [{{metric: acc, {MEAN}}}, {{metric: acc_norm, {MEAN}}}]\n"
    ),
    "their_text": (
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{q}}'\n"
        "metric_list: [{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}]\n"
    ),
    "their_answer": (
        "output_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{c[0]}}'\n"
        "generation_kwargs: {until: ['.'], max_gen_toks: 4}\n"
        f"metric_list: [{{metric: exact_match, {MEAN}}}]\n"
    ),
    "their_described_answer": (
        "output_type: generate_until\ndescription: 'Yes or no.'\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{c[0]}}'\n"
        f"metric_list: [{{metric: exact_match, {MEAN}}}]\n"
    ),
    "their_last_word": (
        "output_type: loglikelihood\ndoc_to_text: '{{q}}'\ndoc_to_target: ' {{c[0]}}'\n"
        f"metric_list: [{{metric: acc, {MEAN}}}]\n"
    ),
    "their_few_shots": (
        "output_type: multiple_choice\nnum_fewshot: 3\ndoc_to_text: '{{q}}'\ndoc_to_target: gold\ndoc_to_choice: c\n"
        f"metric_list: [{{metric: acc, {MEAN}}}]\n"
    ),
    "their_odd_one": (
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{q}}'\n"
        "metric_list: [{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]\n"
    ),
}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = tmp_path / "rows.jsonl"
    made = [{"q": f"Is {i} even?", "c": ["yes", "no"], "gold": i % 2} for i in range(9)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made))
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}, cache_dir: {tmp_path}}}\ntest_split: test\n"
    for name, text in FILES.items():
        (tmp_path / f"{name}.yaml").write_text(f"task: {name}\n{data}{text}")
    (tmp_path / "group.yaml").write_text("group: their_group\ntask: [their_choice]\n")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr(registry, "known_tasks", lambda: manager)
    return rows


def measured(name: str, model: LoadedModel, *, items: int = 5) -> list[Measured]:
    benchmark = registry_benchmark(name, Deal(items=items, seed=1), system_prompt=SYSTEM)
    found = list(benchmark.measure(Answerer(model=model, adapter=None), lambda *_: None))
    assert [(m.benchmark, m.metric) for m in found] == list(benchmark.expects)
    assert all(len(m.items) == items for m in found)
    return found


@pytest.mark.usefixtures("theirs")
def test_multiple_choice_of_theirs_has_acc_norm_and_p_correct(tiny_model: LoadedModel) -> None:
    plain, right, sure = measured("their_choice", tiny_model)

    assert (plain.metric, right.metric, right.chance) == ("acc", "acc_norm", 0.5)
    assert all((item.value > 0.5) == bool(hit.value) for item, hit in zip(sure.items, right.items, strict=True))


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
    ("name", "metric", "direction"),
    [
        ("their_text", "bits_per_byte", "lower"),
        ("their_answer", "exact_match", "higher"),
        ("their_last_word", "acc", "higher"),
        ("their_group", "acc", "higher"),
    ],
)
def test_other_kinds_give_the_metric_that_they_log(
    name: str, metric: str, direction: str, tiny_model: LoadedModel
) -> None:
    first = measured(name, tiny_model)[0]

    assert (first.metric, first.direction) == (metric, direction)


@pytest.mark.usefixtures("theirs")
def test_a_task_that_we_cannot_read_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match="their_odd_one answers by loglikelihood_rolling and logs word_perp"):
        registry_benchmark("their_odd_one", Deal(items=4, seed=1), system_prompt=SYSTEM)


def test_a_name_that_would_be_judged_as_a_part_of_a_benchmark_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"longproc_countdown_0\.5k has a dot"):
        registry_benchmark("longproc_countdown_0.5k", Deal(items=4, seed=1), system_prompt=SYSTEM)


@pytest.mark.usefixtures("theirs")
def test_examples_before_a_question_are_the_same_for_every_answerer(tiny_model: LoadedModel) -> None:
    tasks = _load("their_few_shots")
    who = Answerer(model=tiny_model, adapter=None)

    first, again = (
        [sample["arguments"] for sample in run_tasks(tasks, who, lambda *_: None)["their_few_shots"]] for _ in range(2)
    )

    assert first == again and len({str(prompt) for prompt in first}) == 9
    assert "few_shot_seed" in _settings(tasks["their_few_shots"])
    assert "few_shot_seed" not in _settings(_load("their_choice")["their_choice"])


@pytest.mark.usefixtures("theirs")
def test_an_unknown_name_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match="'nonsense' is neither a task file here nor a task of lm-eval"):
        registry_benchmark("nonsense", Deal(items=4, seed=1), system_prompt=SYSTEM)


def test_rows_that_cannot_be_had_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        all_tasks = ("gsm8k",)

        def load(self, names: list[str]) -> Any:
            raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub")

    monkeypatch.setattr(registry, "known_tasks", Offline)

    with pytest.raises(EvenkeelError, match="gsm8k could not be loaded .*Couldn't reach.* take the name out of"):
        registry_benchmark("gsm8k", Deal(items=4, seed=1), system_prompt=SYSTEM)


def test_other_rows_are_another_measurement(theirs: Path) -> None:
    before = registry_benchmark("their_choice", Deal(items=9, seed=1), system_prompt=SYSTEM).digest
    theirs.write_text(theirs.read_text().replace("Is 3 even?", "Is three even?"))

    assert registry_benchmark("their_choice", Deal(items=9, seed=1), system_prompt=SYSTEM).digest != before


class Prompts(list[list[int]]):
    """What a model was asked to go on from; it says nothing."""

    def generate(self, prompts: Sequence[Sequence[int]], **_: Any) -> list[Generation]:
        self.extend(map(list, prompts))
        return [Generation(ids=(), text="", finished=True, confidence=None) for _ in prompts]


@pytest.mark.usefixtures("theirs")
def test_what_is_written_is_asked_as_the_bot_asks(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Prompts()
    monkeypatch.setattr(tiny_model, "generate", given.generate)
    renderer = tiny_model.renderer

    measured("their_answer", tiny_model, items=9)

    begin = renderer.tokenizer(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n", add_special_tokens=False).input_ids
    assert all(prompt[: len(begin)] == begin for prompt in given)
    assert given == [list(renderer.prompt(asked(SYSTEM, f"Is {i} even?"))) for i in range(9)]


@pytest.mark.usefixtures("theirs")
def test_a_description_stands_after_the_system_prompt(tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Prompts()
    monkeypatch.setattr(tiny_model, "generate", given.generate)

    measured("their_described_answer", tiny_model, items=9)

    wanted = asked(f"{SYSTEM}\n\nYes or no.", "Is 0 even?")
    assert given[0] == list(tiny_model.renderer.prompt(wanted))


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("name", ["their_choice", "their_text", "their_last_word", "their_few_shots"])
def test_what_is_only_read_is_plain_text_and_the_same_measurement_under_every_system_prompt(name: str) -> None:
    one, other = (registry_benchmark(name, Deal(items=9, seed=1), system_prompt=text) for text in (SYSTEM, "Other."))
    (task,) = _load(name).values()

    assert one.digest == other.digest == digest_of([{name: repr(_settings(task))}, repr({name: list(task.eval_docs)})])


@pytest.mark.usefixtures("theirs")
def test_what_is_written_is_another_measurement_under_another_system_prompt() -> None:
    digests = {
        registry_benchmark("their_answer", Deal(items=9, seed=1), system_prompt=text).digest
        for text in (SYSTEM, "Other.")
    }

    assert len(digests) == 2


@pytest.mark.usefixtures("theirs")
def test_multiple_choice_goes_without_a_chat_template(tiny_model: LoadedModel) -> None:
    read: list[str] = []

    class Reader(AnswererLM):
        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            read.extend(str(request.args[0]) for request in requests)
            return super().loglikelihood(requests, disable_tqdm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.harness.AnswererLM", Reader)
        measured("their_choice", tiny_model, items=9)

    assert read == [f"Is {i} even?" for i in range(9) for _ in range(2)]
