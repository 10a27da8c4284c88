"""Markdown tables as aligned text: Slack's text has no tables, and a fence keeps columns. Pure."""

import re
import unicodedata

TABLE = re.compile(r"(?m)^[ \t]*\|?[^\n|]+\|[^\n]*\n[ \t]*\|?[ \t:-]*-[ \t:|-]*\|?[ \t]*$(?:\n[^\n|]*\|[^\n]*)*")
RULE = re.compile(r"─+(?:┼─+)+")


def as_text(table: str) -> str:
    """The lines of a Markdown table, aligned; the second one is a rule by which `header_of` knows it."""
    lines = table.split("\n")
    rows = [_cells(line) for line in (lines[0], *lines[2:])]
    count = max(len(row) for row in rows)
    rows = [[*row, *[""] * (count - len(row))] for row in rows]
    widths = [max(_width(row[n]) for row in rows) for n in range(count)]
    shown = [" │ ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([shown[0], "─┼─".join("─" * width for width in widths), *shown[1:]])


def header_of(lines: list[str]) -> list[str]:
    """The first two lines of a table made by `as_text`, to be repeated where it is cut; none for other text."""
    return lines[:2] if len(lines) > 2 and RULE.fullmatch(lines[1]) else []


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [re.sub(r"\*\*|__|`", "", cell).strip() for cell in re.split(r"(?<!\\)\|", inner)]


def _width(text: str) -> int:
    """Columns of a fixed-width font: CJK characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))
