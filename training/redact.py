"""Personal data and secrets out of a text, each replaced by its kind: [email], [phone], [card], [iban], [id], [ip], [secret].

Promise: redacting twice changes nothing more. It errs on the side of removing. Knows patterns, not people: names and
postal addresses stay. Source: phonenumbers for phones, Luhn for cards, ISO 7064 for IBANs, the published check digits of
German tax ids and Spanish DNI and NIE, issuers' documented token forms.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable, Collection, Iterator

import phonenumbers
import regex

_EMAIL = regex.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", regex.UNICODE)
_SECRET = regex.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]{0,8000}?-----END [A-Z ]*PRIVATE KEY-----)?|"
    r"https://hooks\.slack\.com/[\w/-]+|"
    r"\b(?:xox[abeprs]-[\w-]{8,}|xapp-[\w-]{8,}|(?:sk|pk|rk)_(?:live|test)_\w{6,}|sk-[\w-]{16,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|"
    r"gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{12,}|hf_\w{16,}|AIza[\w-]{30,}|"
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
_GIVEN = regex.compile(  # what is named a secret: the value after the word, when it looks like one
    r"(?i)(?:pass(?:word|wort|phrase)|contraseña|secret|api[ _-]?key|access[ _-]?key|token|bearer)\b[ \"']{0,2}(?:[:=]|\bis\b|\best?\b|\bist\b)?"
    r"[ \"']{0,3}((?=[^\s\[\]]*\d)(?=[^\s\[\]]*\p{L})[^\s\[\]\"',;]{8,})"
)
_LONG = regex.compile(
    r"(?<![\w/.-])(?=\w*\d\w*\d\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_]{32,}(?![\w/])"
)  # keys, hashes, planted canaries
_CARD = regex.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")
_IBAN = regex.compile(r"\b[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?\b")
_PHONE = regex.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ().\-/]{0,2}\d){6,14}(?!\d)")
_US_SSN = regex.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_UK_NINO = regex.compile(r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b")
_ES_DNI = regex.compile(r"\b([XYZ]|\d)(\d{7})-?([A-Z])\b")
_DE_TAX = regex.compile(r"(?<![\d-])[1-9]\d(?: ?\d{3}){3}(?![\d-])")
_IP = regex.compile(r"(?<![\w.])(?<!(?i:version|release|v)[ .]?)(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = regex.compile(
    r"(?<![\w:.])[23][0-9A-Fa-f]{3}(?:::?[0-9A-Fa-f]{1,4}){1,7}(?:::)?(?!:?\w)"
)  # 2000::/3, all that is given out
Spans = Iterator[tuple[int, int]]


def redact(text: str, keep: Collection[str] = ()) -> tuple[str, Counter[str]]:
    """The text without personal data and secrets, and how many of each kind were taken out.

    `keep`: phone numbers, as phones_in() writes them, that are not personal: the company's own.
    """
    found: Counter[str] = Counter()
    for kind, spans in (
        ("secret", _secrets),
        ("email", _matches(_EMAIL)),
        ("iban", _ibans),
        ("card", _cards),
        ("id", _ids),
        ("ip", _addresses),
        ("phone", lambda text: (span for span in _phones(text) if phone_of(text[slice(*span)]) not in keep)),
    ):
        text = _replace(text, kind, spans(text), found)
    return text, found


def phones_in(text: str) -> list[str]:
    """The phone numbers of a text in one way of writing each: "+" and digits where the country is known."""
    return [phone_of(text[start:end]) for start, end in sorted(set(_phones(text)))]


def phone_of(written: str) -> str:
    """A number's digits, in the international form where it can be told."""
    try:
        parsed = phonenumbers.parse(written, None)
        return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
    except phonenumbers.NumberParseException:
        return "".join(c for c in written if c.isdigit())


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


def _secrets(text: str) -> Spans:
    yield from _matches(_SECRET)(text)
    yield from (match.span(1) for match in _GIVEN.finditer(text))
    yield from _matches(_LONG)(text)


def _cards(text: str) -> Spans:
    return (m.span() for m in _CARD.finditer(text) if _luhn([int(c) for c in m.group() if c.isdigit()]))


def _luhn(digits: list[int]) -> bool:
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _ibans(text: str) -> Spans:
    """Words after it may look like a part of it: the longest that its check digits confirm."""
    for match in _IBAN.finditer(text):
        written = match.group()
        while written and not _iban_is_sound(written.replace(" ", "")):
            written = written.rpartition(" ")[0]
        if written:
            yield match.start(), match.start() + len(written)


def _iban_is_sound(iban: str) -> bool:
    return len(iban) >= 15 and int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1


def _ids(text: str) -> Spans:
    """Numbers by which states know people: US, UK, Spain, Germany."""
    yield from _matches(_US_SSN)(text)
    yield from _matches(_UK_NINO)(text)
    for match in _ES_DNI.finditer(text):
        number = int(match[1].translate(str.maketrans("XYZ", "012")) + match[2])
        if "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == match[3]:
            yield match.span()
    yield from (m.span() for m in _DE_TAX.finditer(text) if _tax_id_is_sound([int(c) for c in m.group() if c != " "]))


def _tax_id_is_sound(digits: list[int]) -> bool:
    product = 10
    for digit in digits[:-1]:
        product = (((digit + product) % 10) or 10) * 2 % 11
    return max(Counter(digits[:-1]).values()) in (2, 3) and (11 - product) % 10 == digits[-1]


def _addresses(text: str) -> Spans:
    """Addresses on the internet; those of a home or office network say nothing about a person."""
    for match in (*_IP.finditer(text), *_IPV6.finditer(text)):
        try:
            if ipaddress.ip_address(match.group()).is_global:
                yield match.span()
        except ValueError:
            continue


def _phones(text: str) -> Spans:
    """Numbers with a country code, also those that no country gives out: an example of a number is one, too."""
    if sum(c.isdigit() for c in text) < 6:
        return
    yield from (m.span() for m in _PHONE.finditer(text))
    for region in ("US", "DE", "ES"):
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            opened = match.raw_string.startswith("(") and ")" not in match.raw_string  # the bracket is the sentence's
            yield match.start + opened, match.end
