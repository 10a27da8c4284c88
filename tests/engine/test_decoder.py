"""The serving layout against transformers and PEFT: the same numbers, whatever shares the pass."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from bot.engine.cache import SHORTEST, Prefixes
from bot.engine.decoder import Decoder
from bot.engine.layers import Interrupted, Segment
from bot.engine.lora import REST_S
from bot.engine.model import LoadedModel
from bot.engine.stock import StockDecoder, open_decoder
from storage.errors import WeightsError
from storage.weights import base_digest, keep_adapter

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 259, "max_position_embeddings": 256}  # fmt: skip
KINDS: dict[str, Any] = {
    "llama": LlamaConfig(**SHAPE),
    "llama with long ropes": LlamaConfig(**SHAPE, rope_parameters={
        "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=16),
}  # fmt: skip
LONG, SHORT_ROW = list(range(5, 45)), [7, 9, 11]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def base_of(kind: str, tiny_folder: Path, room: Path, config: Any = None) -> Path:
    """A random base of this kind with the tiny one's tokenizer."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config or KINDS[kind])
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.3)
    folder = room / "base"
    model.save_pretrained(folder)
    for path in tiny_folder.glob("tok*"):
        (folder / path.name).write_bytes(path.read_bytes())
    if (template := tiny_folder / "chat_template.jinja").exists():
        (folder / template.name).write_bytes(template.read_bytes())
    return folder


def adapter_of(base: Path, room: Path, seed: int, targets: Any = "all-linear") -> Path:
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules=targets))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return keep_adapter(room, lambda folder: model.save_pretrained(folder), {"base_digest": base_digest(base)})[1]


def opened(base: Path) -> Decoder:
    decoder, _ = open_decoder(base, device="cpu", dtype=torch.float32)
    assert isinstance(decoder, Decoder)
    return decoder


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    with torch.inference_mode():
        found = model.generate(torch.tensor([ids]), max_new_tokens=count, min_new_tokens=count, do_sample=False)
    return list(found[0, len(ids) :].tolist())


def read(decoder: Any, ids: list[int], adapter: str | None, *, room: int = 64) -> tuple[Any, torch.Tensor]:
    cache = decoder.new_cache(len(ids) + room)
    return cache, decoder.forward([Segment(ids=ids, cache=cache, adapter=adapter)])[0]


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    return base_of("llama", tiny_folder, tmp_path)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_base_and_adapter_in_one_pass_say_what_the_bare_model_and_peft_say(
    kind: str, compiled: bool, tiny_folder: Path, tmp_path: Path
) -> None:
    base = base_of(kind, tiny_folder, tmp_path)
    folder = adapter_of(base, tmp_path, 1)
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = {None: bare(torch.tensor([LONG])).logits[0, -1]}
    said = {None: greedy(bare, LONG, 12)}
    tuned = PeftModel.from_pretrained(bare, folder).eval()
    decoder = opened(base)
    decoder.few = decoder.few if compiled else None
    digest = decoder.attach(decoder.read_adapter(folder))
    with torch.inference_mode():
        wanted[digest] = tuned(torch.tensor([LONG])).logits[0, -1]
    said[digest] = greedy(tuned, LONG, 12)

    rows = {who: read(decoder, LONG, who) for who in (None, digest)}
    for who, (_, logits) in rows.items():
        assert torch.allclose(logits, wanted[who], atol=1e-4)
    other, _ = read(decoder, SHORT_ROW, digest)
    found: dict[str | None, list[int]] = {who: [int(logits.argmax())] for who, (_, logits) in rows.items()}
    for _ in range(11):  # tuned, base and a tuned row of another length in each pass, not in the adapters' order
        plan = [(digest, other, [1]), *((who, rows[who][0], found[who][-1:]) for who in (None, digest))]
        logits = decoder.forward([Segment(ids=ids, cache=cache, adapter=who) for who, cache, ids in plan])
        for (who, _, _), row in zip(plan[1:], logits[1:], strict=True):
            found[who].append(int(row.argmax()))
    assert found == said and said[None] != said[digest]


def test_a_prompt_read_in_pieces_beside_an_answer_is_the_prompt_read_at_once(base: Path, tmp_path: Path) -> None:
    decoder = opened(base)
    digest = decoder.attach(decoder.read_adapter(adapter_of(base, tmp_path, 2, ["q_proj", "up_proj", "o_proj"])))
    whole = {who: read(decoder, LONG, who)[1] for who in (None, digest)}

    for who in (None, digest):
        speaker, _ = read(decoder, SHORT_ROW, digest)
        cache = decoder.new_cache(64)
        for start, stop in ((0, 1), (1, 7), (7, 30)):
            segments = [Segment(ids=[4], cache=speaker, adapter=digest),
                        Segment(ids=LONG[start:stop], cache=cache, adapter=who, speaks=False)]  # fmt: skip
            assert len(decoder.forward(segments)) == 1
        last = decoder.forward([Segment(ids=LONG[30:], cache=cache, adapter=who)])[0]
        assert torch.allclose(last, whole[who], atol=1e-4)
        assert cache.tokens == LONG


def test_a_user_beside_a_shadow_gets_the_numbers_of_a_user_alone(base: Path, tmp_path: Path) -> None:
    decoder = opened(base)
    digest = decoder.attach(decoder.read_adapter(adapter_of(base, tmp_path, 2)))
    (one, first), (two, second) = (read(decoder, LONG, digest) for _ in range(2))
    shadow, _ = read(decoder, LONG, None)
    assert torch.equal(first, second)

    alone = decoder.forward([Segment(ids=[6], cache=one, adapter=digest)])[0]
    beside = decoder.forward(
        [Segment(ids=[6], cache=two, adapter=digest), Segment(ids=[6], cache=shadow, adapter=None)]
    )[0]
    assert torch.allclose(alone, beside, atol=1e-4)


def test_an_interrupted_pass_leaves_every_row_as_it_was(base: Path) -> None:
    decoder = opened(base)
    cache, _ = read(decoder, LONG, None)
    calls = iter([False, False, True])

    with pytest.raises(Interrupted):
        decoder.forward([Segment(ids=[200], cache=cache, adapter=None)], interrupt=lambda: next(calls))

    again, _ = read(decoder, LONG, None)
    assert cache.tokens == LONG
    after, fresh = (decoder.forward([Segment(ids=[6], cache=c, adapter=None)]) for c in (cache, again))
    assert torch.equal(after, fresh)


def test_an_adapter_that_is_not_attached_or_gone_cannot_speak(base: Path, tmp_path: Path) -> None:
    decoder = opened(base)
    prepared = decoder.read_adapter(adapter_of(base, tmp_path, 2))
    with pytest.raises(WeightsError, match="not attached"):
        read(decoder, SHORT_ROW, prepared.digest)
    decoder.attach(prepared)
    _, tuned = read(decoder, SHORT_ROW, prepared.digest)
    decoder.remove_adapter(prepared.digest)

    with pytest.raises(WeightsError, match="not attached"):
        read(decoder, SHORT_ROW, prepared.digest)
    assert decoder.adapters == set() and not torch.equal(read(decoder, SHORT_ROW, None)[1], tuned)


def test_what_an_earlier_row_has_read_is_taken_over_and_never_from_another_adapter_or_role(base: Path) -> None:
    decoder = opened(base)
    prefixes = Prefixes(10**9)
    cache, _ = read(decoder, LONG, None)
    prefixes.keep(("user", None), cache)
    follow_up = [*LONG, 50, 51, 52]
    wanted = read(decoder, follow_up, None)[1]

    fresh = decoder.new_cache(64)
    prefixes.begin(("user", None), follow_up, fresh)
    assert fresh.tokens == LONG
    left = follow_up[len(fresh.tokens) :]
    assert torch.allclose(decoder.forward([Segment(ids=left, cache=fresh, adapter=None)])[0], wanted, atol=1e-4)

    same = decoder.new_cache(64)
    prefixes.begin(("user", None), LONG, same)
    assert same.tokens == LONG[:-1]  # one token is left to read: a row must speak
    for stranger in (("user", "a" * 64), ("shadow", None)):
        empty = decoder.new_cache(64)
        prefixes.begin(stranger, follow_up, empty)
        assert empty.tokens == []
    prefixes.forget(None)
    gone = decoder.new_cache(64)
    prefixes.begin(("user", None), follow_up, gone)
    assert gone.tokens == []


def test_of_earlier_rows_the_last_used_stay_while_there_is_room(base: Path) -> None:
    decoder = opened(base)
    rows = [[n, *range(60, 60 + SHORTEST)] for n in range(4)]
    size = read(decoder, rows[0], None)[0].trimmed().nbytes
    prefixes = Prefixes(2 * size)
    for row in rows[:2]:
        prefixes.keep(("user", None), read(decoder, row, None)[0])
    prefixes.begin(("user", None), [*rows[0], 1], decoder.new_cache(64))
    prefixes.keep(("user", None), read(decoder, rows[2], None)[0])

    def known(row: list[int]) -> bool:
        cache = decoder.new_cache(64)
        prefixes.begin(("user", None), [*row, 1], cache)
        return bool(cache.tokens)

    assert [known(row) for row in rows] == [True, False, True, False]


def test_a_base_of_another_kind_is_served_through_transformers(tiny_folder: Path, tmp_path: Path) -> None:
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=259, n_positions=256)
    folder = base_of("gpt2", tiny_folder, tmp_path, config)
    bare = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    decoder, _ = open_decoder(folder, device="cpu", dtype=torch.float32)
    assert isinstance(decoder, StockDecoder)

    one, first = read(decoder, LONG, None)
    two, _ = read(decoder, SHORT_ROW, None)
    logits = decoder.forward([Segment(ids=[9], cache=two, adapter=None), Segment(ids=[8], cache=one, adapter=None)])
    with torch.inference_mode():
        wanted = [bare(torch.tensor([ids])).logits[0, -1] for ids in (LONG, [*SHORT_ROW, 9], [*LONG, 8])]
    for found, right in zip((first, *logits), wanted, strict=True):
        assert torch.allclose(found, right, atol=1e-4)


def test_a_base_that_answers_differently_in_its_layout_is_not_served_in_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((base / "config.json").read_text())
    assert config["model_type"] == "llama"
    monkeypatch.setattr("bot.engine.decoder.rms_norm", lambda x, *_: x)

    assert isinstance(open_decoder(base, device="cpu", dtype=torch.float32)[0], StockDecoder)


def test_packed_weights_answer_as_the_bare_model_does_up_to_their_type(base: Path) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor does not multiply bfloat16")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder, _ = open_decoder(base, device="cpu", dtype=torch.bfloat16)
        bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval()
    assert isinstance(decoder, Decoder) and decoder.layers[0].projections["qkv"].packed
    with torch.inference_mode():
        wanted = bare(torch.tensor([LONG])).logits[0, -1].float()
    assert torch.allclose(read(decoder, LONG, None)[1], wanted, atol=0.05)


def test_who_reads_an_adapter_beside_answers_rests_behind_each_layer_and_who_scores_does_not(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rests = adapter_of(base, tmp_path, 1), list[float]()
    monkeypatch.setattr("bot.engine.lora.time.sleep", rests.append)
    LoadedModel.load(base).add_adapter(folder)
    assert rests == []

    decoder = opened(base)
    decoder.read_adapter(folder)
    assert len(rests) >= len(decoder.linears) and set(rests) == {REST_S}
