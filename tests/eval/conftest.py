"""A tiny random model with a byte-level tokenizer, two adapters for it, and a suite of a few items on disk."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bot.engine.model import LoadedModel
from storage.records import Lesson
from storage.settings import Settings, load_settings
from storage.weights import base_digest, keep_adapter

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QUESTIONS = (
    ("What is frozen water?", ["ice", "steam", "sand"], 0),
    ("Where do fish live?", ["in trees", "in water"], 1),
)
TOPICS = {
    "billing": "Your invoice is under billing.",
    "login": "Reset the password to log in.",
    "mail": "Mail syncs hourly.",
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers whose tokens are bytes; its answers are nonsense, its arithmetic is real."""
    folder = tmp_path_factory.mktemp("tiny")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*SPECIAL, *letters])}, merges=[]))
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokens.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=2, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> LoadedModel:
    return LoadedModel.load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def exact(tiny_folder: Path) -> LoadedModel:
    """The tiny model in float32: what is left between two ways to compute is rounding alone."""
    return LoadedModel.load(tiny_folder, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def weights(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of two different adapters."""
    return tuple(_adapter(tiny_folder, tmp_path_factory.mktemp("weights"), s) for s in (1, 2))  # type: ignore[return-value]


@pytest.fixture(scope="session")
def adapters(tiny_model: LoadedModel, weights: tuple[Path, Path]) -> tuple[str, str]:
    """Digests of two different adapters, loaded beside the base."""
    return tuple(map(tiny_model.add_adapter, weights))  # type: ignore[return-value]


def _adapter(tiny_folder: Path, weights: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    targets = ["q_proj", "v_proj", "down_proj"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a property by its older name
        model = get_peft_model(LlamaForCausalLM.from_pretrained(tiny_folder), LoraConfig(r=4, target_modules=targets))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    _, path = keep_adapter(
        weights, lambda folder: model.save_pretrained(folder), {"base_digest": base_digest(tiny_folder)}
    )
    return path


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    """Settings with a suite of one task on disk and small numbers everywhere."""
    settings = load_settings(
        _env_file=None, data_dir=tmp_path / "var", cache_dir=tmp_path / "cache", suite_items=8, target_items=8,
        target_generations=4, max_new_tokens=8, general_tasks=("arc_easy",), system_prompt="Be brief.")  # fmt: skip
    settings.suite_dir.mkdir(parents=True)
    rows = [
        {"id": f"q{i}", "query": query, "choices": choices, "answer": answer, "cluster": f"c{i // 2}"}
        for i in range(10)
        for query, choices, answer in [QUESTIONS[i % 2]]
    ]
    (settings.suite_dir / "arc_easy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return settings


@pytest.fixture
def lessons() -> Callable[[str, int], tuple[Lesson, ...]]:
    def make(side: str, count: int) -> tuple[Lesson, ...]:
        names = sorted(TOPICS)
        return tuple(
            Lesson(
                lesson_id=f"{side}-{i}", source="ticket", conversation_id=f"{side}-{i // 2}", category=names[i % 3],
                messages=({"role": "user", "content": f"Question {i} about {names[i % 3]}?"},), answer=TOPICS[names[i % 3]])
            for i in range(count)
        )  # fmt: skip

    return make
