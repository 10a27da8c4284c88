"""Constraints that a program can check: "in at most 20 words", "as JSON with these keys".

Pure functions from an answer to yes or no; no model judges anything. Source of the idea: Zhou et al. 2023 (IFEval),
arXiv 2311.07911; kinds, wording and items are this project's own.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from eval.metrics import exact_match, words
from storage.errors import ConfigurationError

Check = Mapping[str, Any]
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|[。！？]+")


def passes(answer: str, check: Check) -> bool:
    """Whether the answer keeps one constraint. A blank answer keeps none: silence obeys nothing.

    Raises ConfigurationError for a kind that does not exist.
    """
    kind = KINDS.get(str(check.get("kind")))
    if kind is None:
        raise ConfigurationError(f"check kind {check.get('kind')!r} is unknown; known are {', '.join(sorted(KINDS))}.")
    return bool(answer.strip()) and kind(answer.strip(), check)


def sentences(text: str) -> int:
    """How many sentences end in the text; a last one without a mark counts."""
    pieces = [piece for piece in _SENTENCE_END.split(text) if words_in(piece)]
    return len(pieces)


def words_in(text: str) -> int:
    return len(words(text)) if any(c.isalnum() for c in text) else 0


def _has_keys(answer: str, check: Check) -> bool:
    """A JSON object with all the keys; a fence of backticks around it is forgiven."""
    body = re.sub(r"^```(?:json)?\s*|\s*```$", "", answer)
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and set(check["keys"]) <= set(found)


def _bullets(answer: str) -> int:
    return sum(bool(_BULLET.match(line)) for line in answer.splitlines())


def _paragraphs(answer: str) -> int:
    return sum(bool(part.strip()) for part in re.split(r"\n\s*\n", answer))


def _starts(answer: str, check: Check) -> bool:
    return answer.casefold().startswith(str(check["text"]).strip().casefold())


def _ends(answer: str, check: Check) -> bool:
    return answer.casefold().endswith(str(check["text"]).strip().casefold())


KINDS: dict[str, Callable[[str, Check], bool]] = {
    "contains": lambda a, c: str(c["text"]).casefold() in a.casefold(),
    "not_contains": lambda a, c: str(c["text"]).casefold() not in a.casefold(),
    "starts_with": _starts,
    "ends_with": _ends,
    "max_words": lambda a, c: words_in(a) <= c["n"],
    "min_words": lambda a, c: words_in(a) >= c["n"],
    "max_sentences": lambda a, c: sentences(a) <= c["n"],
    "n_bullets": lambda a, c: _bullets(a) == c["n"],
    "n_paragraphs": lambda a, c: _paragraphs(a) == c["n"],
    "lowercase": lambda a, c: a == a.lower(),
    "uppercase": lambda a, c: a == a.upper(),
    "json_keys": _has_keys,
    "one_of": lambda a, c: any(exact_match(option, a) for option in c["options"]),
    "no_commas": lambda a, c: not any(mark in a for mark in ",，、"),
}
