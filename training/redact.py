"""Personal data and secrets out of a text, each replaced by its kind: [email], [phone], [card], [iban], [secret].

Promise: redacting twice changes nothing more. It errs on the side of removing. Knows patterns, not people: names and
postal addresses stay. Source: phonenumbers for phones, Luhn for cards, ISO 7064 for IBANs, issuers' documented token forms.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import phonenumbers
import regex

_EMAIL = regex.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", regex.UNICODE)
_SECRET = regex.compile(
    r"\b(?:xox[abeprs]-[\w-]{8,}|xapp-[\w-]{8,}|(?:sk|pk|rk)_(?:live|test)_\w{6,}|sk-[\w-]{16,}|AKIA[A-Z0-9]{12,}|"
    r"gh[pousr]_\w{16,}|glpat-[\w-]{12,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_CARD = regex.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = regex.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_PHONE = regex.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ().\-/]{0,2}\d){6,14}(?!\d)")


def redact(text: str) -> tuple[str, Counter[str]]:
    """The text without personal data and secrets, and how many of each kind were taken out."""
    found: Counter[str] = Counter()
    for kind, spans in (
        ("secret", _matches(_SECRET)),
        ("email", _matches(_EMAIL)),
        ("iban", _ibans),
        ("card", _cards),
        ("phone", _phones),
    ):
        text = _replace(text, kind, spans(text), found)
    return text, found


Spans = Iterator[tuple[int, int]]


def _replace(text: str, kind: str, spans: Spans, found: Counter[str]) -> str:
    parts, at = [], 0
    for start, end in sorted(spans):
        if start < at:
            continue
        parts += [text[at:start], f"[{kind}]"]
        at, found[kind] = end, found[kind] + 1
    return "".join(parts) + text[at:]


def _matches(pattern: "regex.Pattern[str]") -> Callable[[str], Spans]:
    return lambda text: (match.span() for match in pattern.finditer(text))


def _cards(text: str) -> Spans:
    return (m.span() for m in _CARD.finditer(text) if _luhn([int(c) for c in m.group() if c.isdigit()]))


def _luhn(digits: list[int]) -> bool:
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _ibans(text: str) -> Spans:
    return (m.span() for m in _IBAN.finditer(text) if _iban_is_sound(m.group().replace(" ", "")))


def _iban_is_sound(iban: str) -> bool:
    return len(iban) >= 15 and int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1


def _phones(text: str) -> Spans:
    """Numbers with a country code, also those that no country gives out: an example of a number is one, too."""
    yield from (m.span() for m in _PHONE.finditer(text))
    for region in ("US", "DE", "ES"):
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            opened = match.raw_string.startswith("(") and ")" not in match.raw_string  # the bracket is the sentence's
            yield match.start + opened, match.end
