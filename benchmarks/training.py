"""Training beside TRL's SFTTrainer: real tokens a second and peak memory, same base, LoRA, rows, mask and batch.

    python -m benchmarks.training [--quick] [--json]

Each side runs in a process of its own, in turns; figures are medians over rounds, their spread the lowest and highest.
TRL is given its best settings, both ways that it has against padding: rows grouped by length, and packing; the better of
the two counts. Both sides train in bf16 where the machine multiplies it, without gradient checkpointing, and compute
the loss on the answers' tokens. Rows are the project's own general rows, so that no data are needed. Tokens are those of
the rows, padding never counts; loading and rendering are not timed. Tokens a CPU second (all threads) say the same on a
machine that others use, too; TRL's include the preparation of its data set. Needs `trl` (the extra `dev` brings it).
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import evenkeel  # noqa: F401  (sets how threads wait)
from bot.engine.base import prepare_base
from storage.recipe import Recipe
from storage.settings import load_settings

RATE = 1e-3
RECIPE = Recipe(learning_rate=RATE, epochs=1.0, batch_size=16, replay_share=0.0)
PASS_ROWS = 8  # TRL's rows of one forward pass; two of them are a step
SIDES = ("ours", "grouped", "packed")
Measured = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 48 rows instead of three of 156")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # the benchmark calls itself for each side
    parser.add_argument("--rows", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if importlib.util.find_spec("trl") is None:
        sys.exit(
            "TRL is not installed here, so there is nothing to compare with. Next: pip install -c constraints.txt trl"
        )
    base = prepare_base(load_settings(_env_file=None), tell)
    if asked.side:
        print(json.dumps(train(asked.side, base, asked.rows)))
        return
    found = measure(rounds=1 if asked.quick else 3, rows=48 if asked.quick else 156)
    rows = figures(found)
    print(json.dumps(rows, indent=2) if asked.json else table(rows, found))


def measure(*, rounds: int, rows: int) -> dict[str, list[Measured]]:
    """Every side in a fresh process, once a round, in another order each round."""
    found: dict[str, list[Measured]] = {side: [] for side in SIDES}
    environment = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    for number in range(rounds):
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            command = [sys.executable, "-m", "benchmarks.training", "--side", side, "--rows", str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode != 0:
                sys.exit(f"{side} failed: {done.stderr.strip()[-2000:]}")
            found[side].append(json.loads(done.stdout.strip().splitlines()[-1]))
            tell(f"{side}: {found[side][-1]}")
    return found


def train(side: str, base: Path, rows: int) -> Measured:
    """One epoch of one side in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bot.engine.model import best_device, best_dtype
    from bot.engine.render import Renderer
    from training.dataset import load_replay
    from training.lora import render, with_lora

    torch.manual_seed(RECIPE.seed)
    kept, _ = render(load_replay()[:rows], Renderer(AutoTokenizer.from_pretrained(base)), RECIPE.max_tokens)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=best_dtype()).to(best_device())
    tuned = with_lora(model, RECIPE)
    before = time.process_time()
    seconds, loss = ours(tuned, kept) if side == "ours" else trls(tuned, kept, base, packed=side == "packed")
    busy, tokens = time.process_time() - before, sum(len(row.ids) for row in kept)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # fmt: skip
    return {
        "tokens_per_s": tokens / seconds,
        "tokens_per_cpu_s": tokens / busy,
        "peak_mib": peak / 2**20,
        "loss": loss,
        "tokens": tokens,
    }


def ours(model: Any, rows: Sequence[Any]) -> tuple[float, float]:
    """Seconds of the whole run, mean loss of its steps."""
    from training.loop import Loop

    loop = Loop(model, rows, RECIPE, RECIPE.rate_at(model.config.hidden_size))
    began = time.perf_counter()
    while not loop.is_done:
        loop.advance()
    return time.perf_counter() - began, statistics.mean(loop.losses)


def trls(model: Any, rows: Sequence[Any], base: Path, *, packed: bool) -> tuple[float, float]:
    """The same of TRL's trainer."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from bot.engine.model import best_dtype

    data = Dataset.from_list(
        [
            {
                "input_ids": list(row.ids),
                "labels": [i if counts else -100 for i, counts in zip(row.ids, row.mask, strict=True)],
            }
            for row in rows
        ]
    )
    way = {"packing": True, "packing_strategy": "bfd"} if packed else {"train_sampling_strategy": "group_by_length"}
    in_pass = 2 if packed else PASS_ROWS  # a packed line has MAX_TOKENS tokens, about four rows
    with tempfile.TemporaryDirectory() as room:
        settings = SFTConfig(
            output_dir=room, per_device_train_batch_size=in_pass, gradient_accumulation_steps=16 // PASS_ROWS,
            num_train_epochs=RECIPE.epochs, learning_rate=RATE, lr_scheduler_type="cosine", warmup_steps=0,
            weight_decay=0.0, max_grad_norm=1.0, bf16=best_dtype() is torch.bfloat16, gradient_checkpointing=False,
            max_length=RECIPE.max_tokens, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(), seed=RECIPE.seed, **way)  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(base)
        )
        began = time.perf_counter()
        done = trainer.train()
        return time.perf_counter() - began, float(done.training_loss)


def figures(found: dict[str, list[Measured]]) -> list[dict[str, Any]]:
    """Medians of each side; and ours over the better of TRL's two ways, for each figure their best."""
    rows = [
        row(f"{name}_{side}", [m[measure] for m in found[side]], unit)
        for name, measure, unit in (("tokens_per_s", "tokens_per_s", "tokens/s"), ("peak_memory", "peak_mib", "MiB"))
        for side in SIDES
    ]
    fast, lean, small = (
        best(found, "tokens_per_s", max), best(found, "tokens_per_cpu_s", max), best(found, "peak_mib", min)
    )  # fmt: skip
    speed, memory = over(found, fast, "tokens_per_s"), over(found, small, "peak_mib")
    return [
        *rows,
        row("tokens_per_s_over_trl", speed, "ratio", bar=1.5, holds=statistics.median(speed) >= 1.5),
        row("tokens_per_cpu_s_over_trl", over(found, lean, "tokens_per_cpu_s"), "ratio"),
        row("peak_memory_over_trl", memory, "ratio", bar=1.0, holds=statistics.median(memory) <= 1.0),
    ]


def best(found: dict[str, list[Measured]], name: str, choose: Callable[..., str]) -> str:
    """The better of TRL's two ways by the median of one number."""
    return choose(SIDES[1:], key=lambda side: median(found[side], name))


def over(found: dict[str, list[Measured]], side: str, name: str) -> list[float]:
    """Ours over theirs, round by round."""
    return [ours[name] / theirs[name] for ours, theirs in zip(found["ours"], found[side], strict=True)]


def row(figure: str, values: Sequence[float], unit: str, bar: float | None = None, holds: bool | None = None) -> dict[str, Any]:  # fmt: skip
    return {"figure": figure, "value": round(statistics.median(values), 3), "unit": unit, "bar": bar, "holds": holds,
            "n": len(values), "spread": [round(min(values), 3), round(max(values), 3)]}  # fmt: skip


def median(rounds: Sequence[Measured], name: str) -> float:
    return statistics.median(m[name] for m in rounds)


def table(rows: list[dict[str, Any]], found: dict[str, list[Measured]]) -> str:
    said = {True: "holds", False: "DOES NOT HOLD", None: ""}
    lines = [
        f"{r['figure']:24} {r['value']:9.3f} {r['unit']:9} bar {r['bar']!s:5} {said[r['holds']]:14} n={r['n']} {r['spread']}"
        for r in rows
    ]
    losses = ", ".join(f"{side} {median(found[side], 'loss'):.3f}" for side in SIDES)
    return "\n".join([*lines, f"mean loss of the epoch: {losses}"])


tell = partial(print, file=sys.stderr, flush=True)

if __name__ == "__main__":
    main()
