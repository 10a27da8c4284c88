"""What a run's history says of a training, a line each. A server elsewhere may not say everything. Pure."""

from collections.abc import Mapping
from typing import Any

from storage.digests import short
from storage.records import Adapter
from training.preferences import in_words


def history_of(adapter: Adapter) -> list[str]:
    stats = adapter.stats
    lines = [f"adapter {short(adapter.digest)}: {in_numbers(stats)}"]
    if outcome := stats.get("preferences"):
        lines.append(in_words(outcome))
    if cut := stats.get("intruders"):
        found = f"{cut['found']} of the {cut['looked']} strongest directions were intruders, in {cut['layers']} layers"
        lines.append(f"{found}: mostly taken out")
    return lines


def in_numbers(stats: Mapping[str, Any]) -> str:
    speed = f" at {stats['tokens_per_s']:.0f} a second" if "tokens_per_s" in stats else ""
    on = f" on {stats['processes']} devices" if stats.get("processes", 1) > 1 else ""
    parts = [f"{stats['tokens']} tokens{speed}{on}"] if "tokens" in stats else []
    parts += ["the base in 4 bit"] if stats.get("base_bits") == 4 else []
    parts += [f"last loss {stats['final_loss']:.3f}"] if "final_loss" in stats else []
    return ", ".join(parts) or "no numbers"
