"""Our losses equal TRL's trainers' own on one batch of a tiny model with an adapter. TRL phones nobody here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from bot.engine.render import Renderer
from storage.recipe import Recipe
from storage.records import Lesson
from training.batches import Row
from training.loop import Loop, Sums
from training.lora import with_lora
from training.losses import cross_entropy, dpo, drift_of, kto

pytest.importorskip("trl", reason="TRL is not installed: pip install -e '.[dev]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, accelerate and peft warn of their own future
PAIRS = (("How do I log in?", "Press Sign in.", "I do not know."), ("Where are my invoices?", "Under Billing.", "Ask again later, please."),
         ("Is there an app?", "Yes, for both stores.", "No!"), ("Can I pay by card?", "Yes.", "Maybe, who knows."))  # fmt: skip


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library reads its environment when it is imported, which was long ago."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def model(tiny_folder: Path) -> Any:
    torch.manual_seed(2)
    return with_lora(LlamaForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32), Recipe(lora_rank=4))


def move(model: Any) -> None:
    """Make the adapter differ from the base. Not before the trainer is made: TRL takes what it is given for its reference."""
    for name, weight in model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(weight, std=0.2)


def settings(config: Any, folder: Path, **more: Any) -> Any:
    return config(output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, per_device_train_batch_size=4,
                  gradient_checkpointing=False, disable_tqdm=True, max_length=None, **more)  # fmt: skip


def batch_of(trainer: Any) -> dict[str, Any]:
    return dict(next(iter(trainer.get_train_dataloader())))


def rows_of(ids: torch.Tensor, mask: torch.Tensor, attended: torch.Tensor) -> list[Row]:
    """TRL's own batch as our rows: the padding goes."""
    return [
        Row(ids=tuple(i[a].tolist()), mask=tuple(m[a].tolist()))
        for i, m, a in zip(ids, mask.bool(), attended.bool(), strict=True)
    ]


def log_likelihoods(model: Any, rows: list[Row], *, tuned: bool) -> torch.Tensor:
    """Log-probability of each row's answer, with the adapter or without: (R,)."""
    found = []
    for row in rows:
        ids, wanted = torch.tensor([row.ids]), torch.tensor(row.mask)[1:]
        with torch.no_grad():
            if tuned:
                logits = model(ids).logits[0, :-1].float()
            else:
                with model.disable_adapter():
                    logits = model(ids).logits[0, :-1].float()
        found.append(-cross_entropy(logits[wanted], ids[0, 1:][wanted]).sum())
    return torch.stack(found)


def test_our_masked_loss_is_the_sft_trainers(model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list([{"prompt": f"{q} ", "completion": a} for q, a, _ in PAIRS])
    trainer = SFTTrainer(model=model, args=settings(SFTConfig, tmp_path), train_dataset=data,
                         processing_class=AutoTokenizer.from_pretrained(tiny_folder))  # fmt: skip
    inputs = batch_of(trainer)
    move(model)
    rows = rows_of(inputs["input_ids"], inputs["labels"] != -100, inputs["attention_mask"])
    loop = Loop(model, rows, Recipe(lora_rank=4, batch_size=4), 1e-3)

    found = loop.objective(rows, Sums()).item() / sum(row.answer_tokens for row in rows)

    assert found == pytest.approx(trainer.compute_loss(model, inputs).item(), abs=1e-5)


def test_our_mask_is_the_sft_trainers_for_the_chat_template_of_the_base(tiny_folder: Path) -> None:
    renderer = Renderer(AutoTokenizer.from_pretrained(tiny_folder))
    lesson = Lesson(lesson_id="l", source="ticket", conversation_id="c", answer="Press Sign in.",
                    messages=({"role": "user", "content": "How do I log in?"},))  # fmt: skip
    ids, mask = renderer.example(lesson.messages, lesson.answer)

    chat = [*lesson.messages, {"role": "assistant", "content": lesson.answer}]
    whole = renderer.tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]

    assert list(whole)[: len(ids)] == ids and mask.index(True) == len(renderer.prompt(lesson.messages))


def test_our_dpo_with_its_sft_term_is_the_dpo_trainers(model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    data = Dataset.from_list([{"prompt": f"{q} ", "chosen": a, "rejected": b} for q, a, b in PAIRS])
    kinds = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}
    trainer = DPOTrainer(model=model, args=settings(DPOConfig, tmp_path, beta=0.1, **kinds), train_dataset=data,
                         processing_class=AutoTokenizer.from_pretrained(tiny_folder))  # fmt: skip
    inputs = batch_of(trainer)
    move(model)
    rows = rows_of(inputs["input_ids"], inputs["completion_mask"], inputs["attention_mask"])
    tuned, base = (log_likelihoods(model, rows, tuned=who) for who in (True, False))
    chosen = rows[: len(rows) // 2]

    pairs = dpo(*tuned.chunk(2), *base.chunk(2), beta=0.1).mean()
    found = pairs - 0.3 * tuned.chunk(2)[0].sum() / sum(row.answer_tokens for row in chosen)

    assert found.item() == pytest.approx(trainer.compute_loss(model, inputs).item(), abs=1e-5)


def test_our_kto_is_the_kto_trainers(model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    data = Dataset.from_list(
        [{"prompt": f"{q} ", "completion": a, "label": n % 2 == 0} for n, (q, a, _) in enumerate(PAIRS)]
    )
    trainer = KTOTrainer(model=model, args=settings(KTOConfig, tmp_path, beta=0.1, undesirable_weight=1.2), train_dataset=data,
                         processing_class=AutoTokenizer.from_pretrained(tiny_folder))  # fmt: skip
    inputs = batch_of(trainer)
    move(model)
    rows = rows_of(inputs["input_ids"], inputs["completion_mask"], inputs["attention_mask"])
    others = rows_of(inputs["KL_input_ids"], inputs["KL_completion_mask"], inputs["KL_attention_mask"])
    drift = drift_of(*(log_likelihoods(model, others, tuned=who) for who in (True, False)))
    tuned, base = (log_likelihoods(model, rows, tuned=who) for who in (True, False))

    found = kto(tuned, base, torch.as_tensor(inputs["label"]).bool(), drift, beta=0.1, weight_disliked=1.2).mean()

    assert found.item() == pytest.approx(trainer.compute_loss(model, inputs).item(), abs=1e-5)
