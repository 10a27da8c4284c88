"""How a comparison is said to people: one sentence with its figures."""

from storage.records import Comparison

METRICS = {"bits_per_byte": "bits/byte", "p_correct": "p(right)", "pooled": "all shares"}


def title(benchmark: str, metric: str) -> str:
    """A score's name in tables and pictures."""
    return f"{benchmark.replace('_', ' ')} · {METRICS.get(metric, metric.replace('_', ' '))}"


def in_words(c: Comparison) -> str:
    """One comparison as a sentence."""
    name = named(c)
    if c.state == "unknown":
        return f"{name}: unknown, {c.note}"
    move = f"{name}: {figure(c.reference, c)} → {figure(c.candidate, c)}"
    if c.state == "gain":
        return f"{move}, better by at least {amount(c.low, c)}"
    if c.state == "lost":
        return f"{move}, worse by {amount(-c.gain, c)}; tolerated is {amount(c.margin, c)}{spent(c)}"
    if c.state == "undecided":
        wanted = "a gain" if c.margin == 0 else f"a loss under {amount(c.margin, c)}"
        return f"{move}: {wanted} is not proven (n={c.n}, {c.note}){spent(c)}"
    return f"{move}, within {amount(c.margin, c)}"


def named(c: Comparison) -> str:
    """A comparison's name in sentences."""
    against = " against the champion" if c.against == "champion" else ""
    return score_name(c.benchmark, c.metric) + against


def score_name(benchmark: str, metric: str) -> str:
    """A score's name in sentences."""
    return f"{benchmark} ({metric})".replace("_", " ")


def spent(c: Comparison) -> str:
    """What the champion had lost of the same budget, where it had lost something."""
    if c.before is None or c.before >= 0:
        return ""
    return f", of which the champion had lost {amount(-c.before, c)} against the original base"


def figure(value: float, c: Comparison) -> str:
    return f"{100 * value:.1f} %" if c.unit == "share" else f"{value:.3f}"


def amount(value: float, c: Comparison) -> str:
    if c.unit == "share":
        return f"{100 * value:.1f} points"
    return f"{100 * value / c.reference:.1f} %" if c.reference else f"{value:.3f}"
