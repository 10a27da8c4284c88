"""What the silent shadow costs, and how the engine stands beside what it replaces.

    python benchmarks/engine.py [--quick] [--json]

All sides in one process, taken in turns; every answer has the same number of tokens. A ratio is the median over rounds, its
spread the middle half; where both sides stand side by side in a round (ttft_*, itl_*), each round has its own ratio, so that a
machine that is slow for a while slows both. "alone" is one user's tuned answer; "pair" is that and the base's answer to the same prompt.

ttft_shadow_ratio: a question that comes while the shadow of another speaks, over one that comes to an idle engine.
itl_*_ratio: the user's time per token with a shadow beside (paired) or waiting (deferred), over alone. pair_over_one_ratio:
until both answers are there, over one. ours_over_peft_*: wall time over transformers + PEFT `generate` in the same type;
the pair is a mixed batch (`adapter_names`). step_over_linears: one pass of tuned and base over the bare sum of the linear
layers of that pass, in the faster of the two ways that this program knows. swap_stall_steps: the longest pause in an answer while the champion changes (its files are read, its canary answers, it
takes over), less the longest in as long a time just before, in usual steps of that answer. memory_ratio: resident memory of a process that
serves base and tuned over one that serves base. swap_*: answers that failed, or that are not one adapter's own, over 100
promotions under load (float32, so that an answer does not depend on its neighbours). questions_per_s and p95_s: sixteen
people at once, in the engine, through PEFT one after the other, and in llama.cpp's server (no bar).
"""

import sys
from pathlib import Path

if not __package__:  # run by its path: this folder has files that are named as packages are
    sys.path[0] = str(Path(__file__).parents[1])

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import evenkeel

evenkeel.wait_awake()  # as the engine's process does; read when torch is loaded

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import linear

from benchmarks import process
from benchmarks.llama import Llama
from bot.engine.base import prepare_base
from bot.engine.decoder import Decoder
from bot.engine.layers import Segment
from bot.engine.model import loaded
from bot.engine.pairing import measured
from bot.engine.rows import Ask, End
from bot.engine.scheduler import Scheduler, apart
from bot.engine.stock import open_decoder
from storage.errors import EvenkeelError
from storage.settings import load_settings
from storage.weights import base_digest, keep_adapter

QUESTIONS = ("How do I reset my password?", "Where can I change the currency of an invoice?", "The timer does not stop. What now?",
             "How do I export my hours?", "Can I invite a client to the portal?", "Why was I charged for two seats?")  # fmt: skip
CONCURRENT = 16
FIRST = 2  # tokens of an answer of which only the first is timed
SWAP_ANSWERS = 8  # times as long as other answers are those in which the champion changes
Row = dict[str, Any]
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds, ten swaps")
    parser.add_argument("--json", action="store_true", help="one array of rows")
    parser.add_argument("--resident", nargs="*", help=argparse.SUPPRESS)  # the benchmark calls itself for memory
    asked = parser.parse_args()
    settings = load_settings(_env_file=None)
    base = prepare_base(settings, tell)
    if asked.resident is not None:
        print(resident(base, [Path(name) for name in asked.resident]))
        return
    with tempfile.TemporaryDirectory() as room:
        adapters = apart(lambda: [adapter(base, Path(room), seed) for seed in (1, 2)])
        rows = measure(base, adapters, quick=asked.quick)
    print(json.dumps(rows, indent=2) if asked.json else table(rows))


def measure(base: Path, adapters: Sequence[Path], *, quick: bool) -> list[Row]:
    rounds, tokens = (3, 24) if quick else (12, 48)
    parts: list[Callable[[], list[Row]]] = [
        lambda: answers(base, adapters[0], rounds=rounds, tokens=tokens),
        lambda: [memory(base, adapters[0])],
        lambda: [stall(base, adapters, rounds=rounds, tokens=tokens)],
        lambda: swaps(base, adapters, count=10 if quick else 100),
    ]
    rows: list[Row] = []
    for part in parts:
        found = part()
        tell(table(found))  # what was measured is said, whatever becomes of the rest
        rows += found
    return rows


def adapter(base: Path, room: Path, seed: int) -> Path:
    """A LoRA of rank 16 on every linear layer that changes the answers and keeps them language."""
    torch.manual_seed(seed)
    model, _ = loaded(base, device="cpu", dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.002)
    return keep_adapter(room, lambda folder: tuned.save_pretrained(folder), {"base_digest": base_digest(base)})[1]


# Answers


class Side:
    """A scheduler that never ends an answer early, asked for tuned and base."""

    def __init__(self, base: Path, folders: Sequence[Path], dtype: torch.dtype | None = None) -> None:
        self.decoder, self.renderer = apart(lambda: open_decoder(base, dtype=dtype))
        self.renderer.end_ids = frozenset()
        self.found = apart(lambda: measured(self.decoder, "auto"))
        self.scheduler = Scheduler(self.decoder, self.renderer, self.found)
        self.scheduler._prefixes.room = 0  # every prompt is read: neither side may profit from the other's
        self.digests = [self.scheduler.fetch(folder) for folder in folders]

    def ask(
        self, role: Any, who: str | None, question: str, tokens: int, cancelled: threading.Event | None = None
    ) -> "Answer":
        answer, left = Answer(), cancelled or threading.Event()
        prompt = self.renderer.prompt([{"role": "user", "content": question}])
        self.scheduler.submit(
            Ask(role=role, adapter=who, prompt=prompt, max_new_tokens=tokens, emit=answer.hear, cancelled=left)
        )
        return answer

    def do(self, work: Callable[[], T]) -> T:
        """Something in the model's thread, where alone it is computed: then no side has a team of threads that waits asleep."""
        return self.scheduler._call(work, timeout_s=600)

    def mode(self, mode: Any) -> None:
        self.scheduler.pairing = replace(self.found, mode=mode)


class Answer:
    def __init__(self) -> None:
        self.begun, self.done, self.begin = time.perf_counter(), threading.Event(), threading.Event()
        self.text = ""
        self.end: End | None = None
        self.seconds, self.heard = 0.0, list[float]()

    def hear(self, event: str | End) -> None:
        self.begin.set()
        if isinstance(event, End):
            self.end, self.seconds = event, time.perf_counter() - self.begun
            self.done.set()
        else:
            self.text += event
            self.heard.append(time.perf_counter())

    def wait(self) -> "Answer":
        if not self.done.wait(300):
            raise RuntimeError("an answer did not come within 300 s")
        return self

    @property
    def ended(self) -> End:
        assert self.end is not None
        return self.end

    @property
    def per_token(self) -> float:
        assert self.ended.ttft_s is not None
        return (self.ended.latency_s - self.ended.ttft_s) / (self.ended.tokens - 1)


def answers(base: Path, folder: Path, *, rounds: int, tokens: int) -> list[Row]:
    ours = Side(base, [folder])
    assert isinstance(ours.decoder, Decoder)
    who = ours.digests[0]
    theirs = ours.do(lambda: Theirs(base, folder, ours.decoder.dtype))
    tell(f"{ours.decoder.dtype}, shadow {ours.found}")
    times: dict[str, list[float]] = {}

    def note(**found: float) -> None:
        for name, value in found.items():
            times.setdefault(name, []).append(value)

    def alone(question: str) -> None:
        answer = ours.ask("user", who, question, tokens).wait()
        note(alone_s=answer.seconds, alone_itl=answer.per_token)

    def beside(mode: str, question: str) -> None:
        ours.mode(mode)
        user, shadow = ours.ask("user", who, question, tokens), ours.ask("shadow", None, question, tokens)
        user.wait(), shadow.wait()
        note(**{f"{mode}_itl": user.per_token, f"{mode}_pair_s": max(user.seconds, shadow.seconds)})

    def first_token(question: str) -> None:
        """Of a question that comes to an idle engine, and of one that comes while a shadow speaks, one after the other."""
        ours.mode(ours.found.mode)
        for busy in random.sample((False, True), 2):
            cancelled = threading.Event()
            if busy:
                shadow = ours.ask("shadow", None, question, 4 * tokens, cancelled)
                shadow.begin.wait(60)
                time.sleep(random.uniform(0, 0.05))
            user = ours.ask("user", who, question, FIRST).wait()
            note(**{"busy_ttft" if busy else "idle_ttft": user.ended.ttft_s or 0.0})
            if busy:
                cancelled.set()
                shadow.wait()

    def per_token(question: str) -> None:
        """One after the other, so that they share the machine's mood."""
        three: list[Callable[[], None]] = [
            partial(alone, question), partial(beside, "paired", question), partial(beside, "deferred", question)]  # fmt: skip
        for side in random.sample(three, 3):
            side()

    sides: list[Callable[[str], None]] = [
        per_token, per_token, *[first_token] * 5,
        lambda q: note(peft_s=ours.do(lambda: theirs.seconds(q, tokens))),
        lambda q: note(peft_pair_s=ours.do(lambda: theirs.seconds(q, tokens, pair=True))),
    ]  # fmt: skip
    for number in range(-1, rounds):
        for side in random.sample(sides, len(sides)):
            side(QUESTIONS[number % len(QUESTIONS)])
        if number < 0:
            times.clear()
    step, bare = ours.do(lambda: passes(ours, who, 10 * rounds))
    note_pair = "paired_pair_s" if ours.found.mode == "paired" else "deferred_pair_s"
    rows = [
        ratio("ttft_shadow_ratio", times["busy_ttft"], times["idle_ttft"], 1.02, each=True),
        ratio("itl_paired_ratio", times["paired_itl"], times["alone_itl"], 1.15, each=True),
        ratio("itl_deferred_ratio", times["deferred_itl"], times["alone_itl"], 1.02, each=True),
        ratio("pair_over_one_ratio", times[note_pair], times["alone_s"], 1.3),
        ratio("ours_over_peft_tuned", times["alone_s"], times["peft_s"], 0.7),
        ratio("ours_over_peft_pair", times[note_pair], times["peft_pair_s"], 0.6),
        ratio("step_over_linears", step, bare, 1.3),
    ]
    rows += crowd(ours, theirs, who, folder, rounds=max(3, rounds // 4), tokens=tokens)
    ours.scheduler.close()
    return rows


def passes(side: Side, who: str, count: int) -> tuple[list[float], list[float]]:
    """Seconds of a pass of tuned and base, and of its linear layers alone."""
    decoder, prompt = side.decoder, side.renderer.prompt([{"role": "user", "content": QUESTIONS[0]}])
    assert isinstance(decoder, Decoder)
    caches = {name: decoder.new_cache(len(prompt) + count + 8) for name in (who, None)}
    for name, cache in caches.items():
        decoder.forward([Segment(ids=prompt, cache=cache, adapter=name)])
    matrices = [p for layer in decoder.layers for p in layer.projections.values()] + [decoder.head]
    inputs = {p.inputs: torch.randn(2, p.inputs, dtype=decoder.dtype) for p in matrices}
    plain = [torch.randn(sum(p.sizes), p.inputs, dtype=decoder.dtype) for p in matrices]

    def ours() -> None:
        for p in matrices:
            p(inputs[p.inputs], ())

    def torchs() -> None:
        for p, weight in zip(matrices, plain, strict=True):
            linear(inputs[p.inputs], weight)

    def one_pass() -> None:
        decoder.forward([Segment(ids=[5], cache=cache, adapter=name) for name, cache in caches.items()])

    found: dict[str, list[float]] = {"ours": [], "torchs": [], "pass": []}
    with torch.inference_mode():
        for lap in range(-2, count):
            for name, act in (("pass", one_pass), ("ours", ours), ("torchs", torchs)):
                begun = time.perf_counter()
                act()
                if lap >= 0:
                    found[name].append(time.perf_counter() - begun)
    tell("; ".join(f"{name} {1000 * statistics.median(t):.1f} ms" for name, t in found.items()))
    return found["pass"], min(found["ours"], found["torchs"], key=statistics.median)


def crowd(ours: Side, theirs: "Theirs", who: str, folder: Path, *, rounds: int, tokens: int) -> list[Row]:
    """Sixteen people at once: the engine, PEFT one after the other, and llama.cpp's server, in turns."""
    ours.mode(ours.found.mode)
    asked = [QUESTIONS[n % len(QUESTIONS)] for n in range(CONCURRENT)]
    prompts = [ours.renderer.prompt([{"role": "user", "content": question}]) for question in asked]

    def engine() -> list[float]:
        return [answer.wait().seconds for answer in [ours.ask("user", who, question, tokens) for question in asked]]

    def peft() -> list[float]:
        return list(accumulate(ours.do(partial(theirs.seconds, question, tokens)) for question in asked))

    sides: dict[str, Callable[[], list[float]]] = {"": engine, "_peft": peft}
    with tempfile.TemporaryDirectory() as room:
        try:
            llama = Llama(theirs.base, folder, Path(room), slots=CONCURRENT, threads=torch.get_num_threads())
        except (subprocess.CalledProcessError, EvenkeelError) as error:
            tell(f"llama.cpp does not install here: {error}")
        else:
            sides["_llama"] = partial(llama.crowd, prompts, tokens)
        waits: dict[str, list[list[float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side in random.sample(list(sides), len(sides)):
                waits[side].append(sides[side]())
    return [
        *(
            several(f"questions_per_s{side}", [CONCURRENT / max(w) for w in found], "1/s")
            for side, found in waits.items()
        ),
        *(several(f"p95_s{side}", [p95(w) for w in found], "s") for side, found in waits.items()),
    ]


class Theirs:
    """transformers + PEFT, as its documentation says to serve."""

    def __init__(self, base: Path, folder: Path, dtype: torch.dtype) -> None:
        self.base = base
        model, self.renderer = loaded(base, dtype=dtype)
        self.model = PeftModel.from_pretrained(model, folder, adapter_name="tuned").eval()

    @torch.inference_mode()
    def seconds(self, question: str, tokens: int, *, pair: bool = False) -> float:
        prompt = self.renderer.prompt([{"role": "user", "content": question}])
        names = {"adapter_names": ["tuned", "__base__"]} if pair else {}
        ids = torch.tensor([prompt] * (2 if pair else 1), device=self.model.device)
        begun = time.perf_counter()
        self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
                            do_sample=False, pad_token_id=0, **names)  # fmt: skip
        return time.perf_counter() - begun


# Memory


def memory(base: Path, folder: Path) -> Row:
    def of(*folders: Path) -> int:
        command = [sys.executable, __file__, "--resident", *map(str, folders)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    alone, both = [of() for _ in range(3)], [of(folder) for _ in range(3)]
    tell(
        f"resident: base {statistics.median(alone) / 1024:.0f} MiB, base and tuned {statistics.median(both) / 1024:.0f} MiB"
    )
    return ratio("memory_ratio", both, alone, 1.05)


def resident(base: Path, folders: Sequence[Path]) -> int:
    """KiB of this process once it has answered, with these adapters and without."""
    side = Side(base, folders)
    for who in (None, *side.digests):
        side.ask("user", who, QUESTIONS[0], 16).wait()
    side.scheduler.close()
    return process.resident()


# Swaps


def stall(base: Path, folders: Sequence[Path], *, rounds: int, tokens: int) -> Row:
    """What somebody who is being answered feels of a promotion, in steps of that answer."""
    side = Side(base, folders)
    side.scheduler.crown(folders[0])
    found, length = [], SWAP_ANSWERS * tokens  # long: an adapter is read in seconds, gently
    for number in range(rounds):
        answer = side.ask("user", side.digests[0], QUESTIONS[number % len(QUESTIONS)], length)
        while len(answer.heard) < length // 2:
            time.sleep(0.002)
        begun = time.perf_counter()
        side.scheduler.crown(folders[(number + 1) % 2])
        took_s = time.perf_counter() - begun
        if answer.done.is_set():
            raise RuntimeError(f"the answer ended before the champion changed, which took {took_s:.1f} s")
        answer.wait()
        pauses = [(after, after - before) for before, after in zip(answer.heard, answer.heard[1:], strict=False)]
        during, calm = (max(p for at, p in pauses if start < at <= start + took_s) for start in (begun, begun - took_s))
        found.append((during - calm) / statistics.median(p for _, p in pauses))
    side.scheduler.close()
    low, value, high = statistics.quantiles(found, n=4)
    return {**plain_row("swap_stall_steps", value, "steps", "longest pause during a swap, less the longest just before"),
            "bar": 1.0, "holds": value < 1.0, "n": rounds, "spread": [round(low, 3), round(high, 3)]}  # fmt: skip


def swaps(base: Path, folders: Sequence[Path], *, count: int, tokens: int = 6) -> list[Row]:
    """Promotions in turn while four people ask without a pause."""
    side = Side(base, folders, torch.float32)
    scheduler, stop = side.scheduler, threading.Event()
    alone = {(who, q): side.ask("user", who, q, tokens).wait().text for who in side.digests for q in QUESTIONS}
    scheduler.crown(folders[0])
    failed, mixed, total = list[str](), list[str](), list[int]()

    def person(seed: int) -> None:
        dice = random.Random(seed)
        while not stop.is_set():
            question, answer = dice.choice(QUESTIONS), Answer()
            prompt = side.renderer.prompt([{"role": "user", "content": question}])
            ask = Ask(role="user", adapter=None, prompt=prompt, max_new_tokens=tokens, emit=answer.hear)
            who = scheduler.submit(ask, champion=True)
            answer.wait()
            total.append(1)
            if answer.ended.reason != "length":
                failed.append(answer.ended.detail)
            elif who is None or answer.text != alone[who, question]:
                mixed.append(answer.text)

    people = [threading.Thread(target=person, args=(seed,)) for seed in range(4)]
    for each in people:
        each.start()
    for number in range(count):
        scheduler.crown(folders[(number + 1) % 2])
        time.sleep(0.05)
    stop.set()
    for each in people:
        each.join()
    scheduler.close()
    tell(f"{count} swaps, {len(total)} answers")
    return [
        {
            **plain_row("swap_failed", len(failed), "answers", f"{count} swaps"),
            "bar": 0,
            "holds": not failed,
            "n": len(total),
        },
        {
            **plain_row("swap_mixed", len(mixed), "answers", f"{count} swaps"),
            "bar": 0,
            "holds": not mixed,
            "n": len(total),
        },
    ]


# Rows


def ratio(figure: str, over: Sequence[float], under: Sequence[float], bar: float, *, each: bool = False) -> Row:
    """Of the medians; `each`: the median of the rounds' own ratios."""
    low, middle, high = statistics.quantiles([o / u for o, u in zip(over, under, strict=False)], n=4)
    value = middle if each else statistics.median(over) / statistics.median(under)
    return {"figure": figure, "value": round(value, 3), "unit": "ratio", "bar": bar, "holds": value <= bar, "n": len(over),
            "spread": [round(low, 3), round(high, 3)], "note": f"{statistics.median(over):.4g} / {statistics.median(under):.4g}"}  # fmt: skip


def p95(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1]


def several(figure: str, values: Sequence[float], unit: str) -> Row:
    return {**plain_row(figure, statistics.median(values), unit, ""), "n": len(values),
            "spread": [round(min(values), 3), round(max(values), 3)]}  # fmt: skip


def plain_row(figure: str, value: float, unit: str, note: str) -> Row:
    return {
        "figure": figure,
        "value": round(value, 3),
        "unit": unit,
        "bar": None,
        "holds": None,
        "n": 1,
        "spread": [],
        "note": note,
    }


def table(rows: list[Row]) -> str:
    said = {True: "holds", False: "DOES NOT HOLD", None: ""}
    return "\n".join(
        f"{r['figure']:22} {r['value']:9.3f} {r['unit']:8} bar {r['bar']!s:5} {said[r['holds']]:14} n={r['n']:<5} "
        f"{r['spread']!s:16} {r['note']}"
        for r in rows
    )


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
