"""The base is the bare model bit for bit, an adapter is what PEFT makes of it, and a mask covers the answer only."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaForCausalLM

from bot.engine.layers import MANY, product
from bot.engine.model import LoadedModel
from bot.engine.render import Renderer
from storage.digests import digest_of_file
from storage.errors import WeightsError
from storage.weights import COMPLETE, MANIFEST, adapter_digest
from tests.eval.conftest import _adapter

ROWS = [[5, 6, 7, 8, 9, 10], [11, 12, 13], [200, 30, 40, 50]]


@pytest.fixture
def model(tiny_folder: Path) -> LoadedModel:
    return LoadedModel.load(tiny_folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return _adapter(tiny_folder, tmp_path, 7)


def bare_log_probs(model: torch.nn.Module, row: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(torch.tensor([row])).logits[0, :-1].float().log_softmax(-1)
    return logits.gather(1, torch.tensor(row[1:])[:, None])[:, 0]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_gives_what_peft_gives_and_the_base_what_the_bare_model_gives(
    model: LoadedModel, tiny_folder: Path, folder: Path
) -> None:
    bare = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    wanted_base = [bare_log_probs(bare, row) for row in ROWS]
    peft = PeftModel.from_pretrained(bare, folder).eval()
    wanted_tuned = [bare_log_probs(peft, row) for row in ROWS]
    digest = model.add_adapter(folder)

    base, tuned = (model.log_probs(ROWS, adapter=who) for who in (None, digest))

    for found, wanted in zip([*base, *tuned], [*wanted_base, *wanted_tuned], strict=True):
        assert torch.allclose(found, wanted, atol=1e-4)
    assert not torch.allclose(base[0], tuned[0], atol=1e-2)


def test_the_divergence_from_the_base_is_the_sum_over_the_whole_vocabulary(
    model: LoadedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, sizes = model.add_adapter(folder), [3, 1, 2]
    monkeypatch.setattr("bot.engine.model.PAIRED_ROWS", 2)
    found = model.divergence(ROWS, sizes, adapter=digest)

    for row, size, values in zip(ROWS, sizes, found, strict=True):
        ours, theirs = (distributions(model, row, who).double()[-size - 1 : -1] for who in (digest, None))
        direct = (ours.softmax(-1) * (ours.log_softmax(-1) - theirs.log_softmax(-1))).sum(-1)
        torch.testing.assert_close(values.double(), direct, atol=1e-5, rtol=1e-5)
        assert values.dtype == torch.float32 and values.shape == (size,) and float(values.min()) > 1e-3
    assert all((values == 0).all() for values in model.divergence(ROWS, sizes, adapter=None))


def distributions(model: LoadedModel, row: list[int], adapter: str | None) -> torch.Tensor:
    """Logits (T, V) of one row alone."""
    model.use(adapter, 1)
    with torch.inference_mode():
        return torch.as_tensor(model.model(torch.tensor([row])).logits[0])


def test_rows_of_one_pass_may_belong_to_different_adapters(model: LoadedModel, folder: Path) -> None:
    digest, ids = model.add_adapter(folder), torch.tensor([ROWS[0], ROWS[0]])
    model.route.slices = [(0, 1, digest)]
    with torch.inference_mode():
        mixed = model.model(input_ids=ids).logits

    alone = [model.next_logits(ids[:1], model.new_cache(), who)[0] for who in (digest, None)]

    assert torch.allclose(mixed[0, -1], alone[0], atol=1e-5) and torch.allclose(mixed[1, -1], alone[1], atol=1e-5)


def test_answers_in_a_batch_equal_answers_alone_and_stop_where_told(model: LoadedModel) -> None:
    together = model.generate(ROWS, adapter=None, max_new_tokens=10)
    alone = [model.generate([row], adapter=None, max_new_tokens=10)[0] for row in ROWS]

    assert together == alone and all(len(g.ids) <= 10 for g in together)
    mark = alone[0].text[2:4]
    cut = model.generate(ROWS[:1], adapter=None, max_new_tokens=10, stop=[mark])[0]
    assert cut.finished and cut.text == alone[0].text[: alone[0].text.index(mark)]


def test_rows_that_have_ended_leave_the_batch_and_the_others_say_what_they_would_have_said(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[*row, n] for n in range(5, 9) for row in ROWS]
    whole = [model.generate([prompt], adapter=None, max_new_tokens=12)[0] for prompt in prompts]
    stop = tuple({g.text[2] for g in whole[::2]})
    alone = [model.generate([prompt], adapter=None, max_new_tokens=12, stop=stop)[0] for prompt in prompts]
    widths, next_logits = list[int](), model.next_logits
    monkeypatch.setattr(
        model, "next_logits", lambda ids, *a, **kw: (widths.append(len(ids)), next_logits(ids, *a, **kw))[1]
    )

    together = model.generate(prompts, adapter=None, max_new_tokens=12, stop=stop)

    assert together == alone and len({len(g.ids) for g in alone}) > 1
    assert widths[0] == len(prompts) > widths[-1], "what has ended is computed no longer"


def test_rows_too_short_to_predict_anything_have_no_log_probabilities(model: LoadedModel) -> None:
    assert [len(x) for x in model.log_probs([[5], [], [5, 6]], adapter=None)] == [0, 0, 1]


def forge(folder: Path) -> Path:
    """Give a changed folder the name and the manifest that fit its bytes: what is left to find lies in the tensors."""
    import json

    manifest = json.loads((folder / MANIFEST).read_text())
    digest = adapter_digest(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"digest": digest}))
    return folder.rename(folder.with_name(digest))


def tensors(folder: Path, change: str) -> None:
    path = folder / "adapter_model.safetensors"
    found = load_file(path)
    name = sorted(found)[0]
    if change == "nan":
        found[name][0, 0] = float("nan")
    elif change == "shape":
        found[name] = found[name][:2]
    elif change == "stranger":
        found[name.replace("layers.0", "layers.9")] = found.pop(name)
    elif change == "lonely":
        del found[name]
    save_file({k: v.contiguous() for k, v in found.items()}, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [("nan", "not finite"), ("shape", "LoRA shapes"), ("stranger", "incomplete"), ("lonely", "incomplete")],
)
def test_tensors_that_do_not_fit_are_refused_and_nothing_is_half_loaded(
    model: LoadedModel, folder: Path, change: str, message: str
) -> None:
    tensors(folder, change)

    with pytest.raises(WeightsError, match=message):
        model.add_adapter(forge(folder))

    assert model.adapters == set() and all(not layer.updates for layer in model.layers.values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("use_dora", True, "not plain LoRA"), ("modules_to_save", ["lm_head"], "not plain LoRA"), ("bias", "all", "not plain LoRA"),
     ("r", 99, "LoRA shapes"), ("peft_type", "IA3", "no LoRA adapter")],
)  # fmt: skip
def test_a_kind_of_adapter_that_cannot_be_served_is_refused(
    model: LoadedModel, folder: Path, key: str, value: object, message: str
) -> None:
    import json

    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))

    with pytest.raises(WeightsError, match=message):
        model.add_adapter(forge(folder))


@pytest.mark.parametrize("damage", ["truncated", "empty", "no marker", "symlink", "pickle", "foreign base"])
def test_a_damaged_or_foreign_adapter_is_refused(model: LoadedModel, folder: Path, damage: str) -> None:
    weights = folder / "adapter_model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "no marker":
        (folder / COMPLETE).unlink()
    elif damage == "symlink":
        shutil.move(weights, folder.parent / "elsewhere")
        weights.symlink_to(folder.parent / "elsewhere")
    elif damage == "pickle":
        weights.rename(folder / "adapter_model.bin")
    else:
        model.base_digest = "0" * 64

    with pytest.raises(WeightsError):
        model.add_adapter(folder)


CONTROLS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
texts = st.lists(
    st.sampled_from([*CONTROLS, "a", " b", "\n", "ü", "<|im_", "end|>"]) | st.text(max_size=6), max_size=8
).map("".join)


@settings(max_examples=150, deadline=None)
@given(question=texts, answer=texts)
def test_no_text_becomes_a_control_token_and_the_mask_covers_answer_and_end_only(
    tiny_folder: Path, question: str, answer: str
) -> None:
    renderer = _renderer(tiny_folder)
    controls = {renderer.tokenizer.convert_tokens_to_ids(c) for c in CONTROLS}
    plain = renderer.prompt([{"role": "user", "content": "x"}])

    ids, mask = renderer.example([{"role": "user", "content": question}], answer)

    assert sum(i in controls for i in ids) == sum(i in controls for i in plain) + 1
    said = [i for i, m in zip(ids, mask, strict=True) if m]
    assert said[-1] in renderer.end_ids and renderer.decode(said) == renderer.defused(answer)
    assert ids[: mask.index(True)] == renderer.prompt([{"role": "user", "content": question}])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_characters="<|>", exclude_categories=("Cs",)), max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_ordinary_text_gives_exactly_the_templates_own_tokens(tiny_folder: Path, turns: list[str]) -> None:
    renderer = _renderer(tiny_folder)
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]

    assert (
        renderer.prompt(messages)
        == renderer.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    )


_RENDERERS: dict[Path, Renderer] = {}


def _renderer(folder: Path) -> Renderer:
    return _RENDERERS.setdefault(folder, Renderer(AutoTokenizer.from_pretrained(folder)))


@pytest.mark.model
def test_the_converted_base_is_whole_speaks_english_and_renders_as_its_own_template(base_folder: Path) -> None:
    model = LoadedModel.load(base_folder)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = model.renderer.prompt(messages)

    (said,) = model.generate([prompt], adapter=None, max_new_tokens=24)

    assert (base_folder / COMPLETE).read_text() == model.base_digest and digest_of_file(
        base_folder / "model.safetensors"
    )
    assert prompt == model.renderer.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert "Paris" in said.text


@pytest.mark.parametrize("shape", [(1, 48), (MANY - 1, 48), (MANY, 48), (3, 90, 48)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_is_torchs_own_for_few_rows_and_for_many(
    shape: tuple[int, ...], dtype: torch.dtype, biased: bool
) -> None:
    dice = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(size, generator=dice).to(dtype) for size in (shape, (70, 48)))
    bias = torch.randn(70, generator=dice).to(dtype) if biased else None
    wanted = torch.nn.functional.linear(x, weight, bias)

    with torch.inference_mode():
        found = product(x, weight, bias)

    assert found.dtype == dtype and found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-5 if dtype == torch.float32 else 2e-2, atol=1e-4)
