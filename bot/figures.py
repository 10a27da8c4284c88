"""A report's numbers as Slack draws them: a table block, two charts, and the same table as plain text.

Pure: reads the rows and points of the report's view.
"""

import math
from collections.abc import Sequence
from typing import Any

from bot.safe_text import escape

TABLE_CHARACTERS = 2_800
COLUMNS = ("name", "against", "n", "reference_text", "candidate_text", "gain_text", "margin_text", "said")
TITLES = ("benchmark", "against", "n", "before", "after", "gain", "tolerated", "outcome")
STATES = ("lost", "unknown", "undecided", "gained", "kept")  # as eval/report.py says them, the ones to look at first
MOST_ROWS, MOST_BARS, WORST = 40, 12, 8


def cells(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The comparisons that decide as a table block; worst first where not all fit."""
    deciding = [row for row in rows if row.get("gates")]
    if len(deciding) > MOST_ROWS:
        deciding = sorted(deciding, key=_urgency)[:MOST_ROWS]
    lines = [TITLES, *([_cell(row.get(name)) for name in COLUMNS] for row in deciding)]
    return {
        "type": "table",
        "column_settings": [{"is_wrapped": True}, {}, *([{"align": "right"}] * 5), {}],
        "rows": [[{"type": "raw_text", "text": text or "–"} for text in line] for line in lines],
    }


def gains(points: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The target's gain of this candidate and the last ones before it, in per cent of the base."""
    known = [p for p in points if _number(p.get("gain")) is not None][-MOST_BARS:]
    names = [f"v{p['version']}" if p.get("version") else f"run {p.get('run_id')}" for p in known]
    if len(set(names)) < len(names):  # a candidate that was promoted twice
        names = [f"run {p.get('run_id')}" for p in known]
    return _bars("Gain on target, % of base", "gain", list(zip(names, (p["gain"] for p in known), strict=True)), "%")


def dearest(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The general scores that came nearest to their margin: 1 is all that is tolerated, below 0 is a gain."""
    found: dict[str, float] = {}
    for row in rows:
        margin, gain = _number(row.get("margin")), _number(row.get("gain"))
        general = row.get("gates") and row.get("against") == "base" and row.get("domain") == "general"
        if general and row.get("said") != "unknown" and margin and gain is not None:
            name = str(row.get("benchmark", "")).replace("_", " ")[:20] or "?"
            found[name] = max(found.get(name, -math.inf), -gain / margin)
    worst = sorted(found.items(), key=lambda pair: -pair[1])[:WORST]
    return _bars("Worst losses (1 = all that is tolerated)", "loss in margins", worst, "margins")


def _bars(title: str, name: str, pairs: Sequence[tuple[str, float]], unit: str) -> dict[str, Any] | None:
    """A bar chart as Slack draws it; None without numbers. Source: docs.slack.dev, data visualization block."""
    if not pairs:
        return None
    data = [{"label": label, "value": round(value, 2)} for label, value in pairs]
    axes = {"categories": [label for label, _ in pairs], "y_label": unit}
    chart = {"type": "bar", "series": [{"name": name, "data": data}], "axis_config": axes}
    return {"type": "data_visualization", "title": title, "chart": chart}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The same comparisons as aligned text, as many as fit into one section; the page has all."""
    deciding = [row for row in rows if row.get("gates")]
    lines_of_cells = [TITLES, *(tuple(_cell(row.get(name)) for name in COLUMNS) for row in deciding)]
    widths = [max(len(line[n]) for line in lines_of_cells) for n in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines_of_cells
    ]
    shown: list[str] = []
    for line in lines:
        if sum(len(escape(x)) + 1 for x in (*shown, line)) > TABLE_CHARACTERS:
            return (
                "```\n" + "\n".join(shown) + f"\n```\n_{len(lines) - len(shown)} more rows are on the report's page._"
            )
        shown.append(escape(line))
    return "```\n" + "\n".join(shown) + "\n```"


def _cell(value: Any) -> str:
    return str("" if value is None else value).replace("`", "'")[:34]


def _urgency(row: dict[str, Any]) -> int:
    """What was lost comes first."""
    said = str(row.get("said"))
    return STATES.index(said) if said in STATES else len(STATES)


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if known else None
