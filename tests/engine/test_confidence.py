"""How sure an answer was: the number that is served and scored is the mean log-probability of what was said."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bot.engine.model import LoadedModel, mean_log_prob
from tests.engine.conftest import Served
from tests.eval.conftest import _adapter

ROWS = [[5, 6, 7, 8, 9, 10], [11, 12, 13], [200, 30, 40, 50]]


@pytest.fixture
def model(tiny_folder: Path) -> LoadedModel:
    return LoadedModel.load(tiny_folder, device="cpu", dtype=torch.float32)


def recomputed(model: LoadedModel, prompt: list[int], said: list[int], adapter: str | None) -> float:
    """The same mean from one pass over the whole row, without a cache."""
    (row,) = model.log_probs([[*prompt, *said]], adapter=adapter)
    return float(row[-len(said) :].mean())


def greedy(model: LoadedModel, prompt: list[int], adapter: str | None, limit: int) -> list[int]:
    """What greedy decoding chooses, the end token included."""
    said: list[int] = []
    while len(said) < limit and not (said and said[-1] in model.renderer.end_ids):
        ids = torch.tensor([[*prompt, *said]])
        said.append(int(model.next_logits(ids, model.new_cache(), adapter).argmax()))
    return said


def test_a_generated_answer_carries_the_mean_log_probability_of_its_tokens(model: LoadedModel, tmp_path: Path) -> None:
    tuned = model.add_adapter(_adapter(Path(model.model.config._name_or_path), tmp_path, 7))

    for adapter in (None, tuned):
        for prompt, one in zip(ROWS, model.generate(ROWS, adapter=adapter, max_new_tokens=10), strict=True):
            said = greedy(model, prompt, adapter, 10)
            assert list(one.ids) == said[: len(said) - one.finished]
            assert one.confidence == pytest.approx(recomputed(model, prompt, said, adapter), abs=1e-4)


def test_the_end_token_counts_and_what_comes_after_it_in_the_batch_does_not(model: LoadedModel) -> None:
    said = greedy(model, ROWS[1], None, 10)
    model.renderer.end_ids = frozenset({said[1]})  # its second token now ends this answer, others go on

    first, one, _ = model.generate(ROWS, adapter=None, max_new_tokens=10)

    assert one.finished and list(one.ids) == said[:1] and len(first.ids) > 1
    assert one.confidence == pytest.approx(recomputed(model, ROWS[1], said[:2], None), abs=1e-4)


def test_an_answer_without_a_token_has_no_confidence(model: LoadedModel) -> None:
    assert model.generate(ROWS[:1], adapter=None, max_new_tokens=0)[0].confidence is None
    assert mean_log_prob([]) is None


def proof_of(served: Served, text: str, **more: Any) -> tuple[dict[str, Any], str]:
    reply = served.client().chat.completions.create(
        model="base", messages=[{"role": "user", "content": text}], max_tokens=12, **more
    )
    return reply.model_extra["evenkeel"], reply.choices[0].message.content  # type: ignore[index,return-value]


def test_a_reply_and_the_last_chunk_of_a_stream_prove_the_same_confidence(served: Served) -> None:
    model = LoadedModel.load(served.base, device="cpu")
    prompt = model.renderer.prompt([{"role": "user", "content": "hello"}])
    wanted = recomputed(model, prompt, greedy(model, prompt, None, 12), None)

    proof_of(served, "hello")  # its beginning is known from now on: both go the same way
    proof, _ = proof_of(served, "hello")
    stream = served.client().chat.completions.create(
        model="base", messages=[{"role": "user", "content": "hello"}], max_tokens=12, stream=True
    )

    last = list(stream)[-1]
    assert proof["confidence"] == pytest.approx(wanted, abs=0.02 if model.model.dtype == torch.bfloat16 else 1e-4)
    assert last.model_extra["evenkeel"]["confidence"] == pytest.approx(proof["confidence"], abs=1e-6)  # type: ignore[index]


def test_a_drawn_answer_is_less_sure_than_the_greedy_one(served: Served) -> None:
    greedy_proof, greedy_text = proof_of(served, "hello")
    drawn_proof, drawn_text = proof_of(served, "hello", temperature=2.0, seed=3)

    assert drawn_text != greedy_text and drawn_proof["confidence"] < greedy_proof["confidence"] < 0
