"""Constraints that a program can check: "in at most 20 words", "as JSON with these keys".

Pure functions from an answer to yes or no; no model judges anything. Source of the idea: Zhou et al. 2023 (IFEval),
arXiv 2311.07911; kinds, wording and items are this project's own.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import regex

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


def _json(answer: str) -> Any:
    """What the answer is as JSON, None for anything else; a fence of backticks around it is forgiven."""
    try:
        return json.loads(re.sub(r"^```(?:json)?\s*|\s*```$", "", answer))
    except ValueError:
        return None


def _has_keys(answer: str, check: Check) -> bool:
    found = _json(answer)
    return isinstance(found, dict) and set(check["keys"]) <= set(found)


def _is_list(answer: str, check: Check) -> bool:
    found = _json(answer)
    return isinstance(found, list) and len(found) == int(check["n"])


def _lines(answer: str) -> list[str]:
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _in_order(answer: str, check: Check) -> bool:
    """Each text once at least, the first places of all of them ascending."""
    places = [answer.casefold().find(str(text).casefold()) for text in check["texts"]]
    return -1 not in places and places == sorted(places)


def _times(answer: str, check: Check) -> bool:
    return words(answer).count(str(check["text"]).casefold()) == int(check["n"])


def _in_script(answer: str, check: Check) -> bool:
    """Every letter of one script; Japanese is one script here, whichever of its three is named."""
    name = check["name"]
    mixed = {"Hiragana": r"\p{Hiragana}\p{Katakana}\p{Han}ー"}.get(name, rf"\p{{{name}}}")
    letters = regex.findall(r"\p{L}", answer)
    return bool(letters) and all(regex.match(rf"[{mixed}]", letter) for letter in letters)


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
    "json_list": _is_list,
    "n_words": lambda a, c: words_in(a) == c["n"],
    "n_sentences": lambda a, c: sentences(a) == c["n"],
    "n_lines": lambda a, c: len(_lines(a)) == c["n"],
    "each_line_starts": lambda a, c: all(line.casefold().startswith(c["text"].casefold()) for line in _lines(a)),
    "in_order": _in_order,
    "times": _times,
    "no_digits": lambda a, c: not any(mark.isdigit() for mark in a),
    "script": _in_script,
    "one_of": lambda a, c: any(exact_match(option, a) for option in c["options"]),
    "no_commas": lambda a, c: not any(mark in a for mark in ",，、"),
}
