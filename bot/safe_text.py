"""Model text made safe for Slack.

Promise: whatever the model wrote, the result holds no live mention, no link outside the allowed domains and none that
hides its target, no control, bidirectional or invisible character and no special token; it is Slack mrkdwn with balanced
code fences. The proof is simple: `<` and `>` only enclose allowed links, addresses elsewhere stand in code, and Slack has
no other syntax that acts.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlsplit

from bot.tables import TABLE, as_text, header_of

MODEL_LIMIT = 20_000  # characters of one answer that are shown at all
SPECIAL = re.compile(r"<\|[^<>|\n]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk)>|\[/?INST\]|<</?SYS>>", re.IGNORECASE)
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
)
STACKED = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4})"
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
LINK = re.compile(
    r"!?\[([^\[\]\n]{0,300})\]\(\s*<?((?:[^\s()<>]|\([^\s()<>]*\)){1,2000})>?(?:\s+[\"'][^\"'\n]{0,300}[\"'])?\s*\)"
)
ADDRESS = re.compile(r"(?:https?|ftp)://[^\s\x00\x01<>()\[\]|`\"']*|www\.[^\s\x00\x01<>()\[\]|`\"']+", re.IGNORECASE)
LOOKS_LIKE_ADDRESS = re.compile(r"://|\b[\w-]+\.[a-z]{2,}\b", re.IGNORECASE)
BOLD = re.compile(r"(\*\*|__)(?=\S)(.{1,500}?)(?<=\S)\1")
ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,500}?)(?<=[^\s*])\*(?![\w*])")
STRIKE = re.compile(r"~~(?=\S)(.{1,500}?)(?<=\S)~~")
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
BULLET = re.compile(r"^([ \t]*)[*+-][ \t]+(?=\S)", re.MULTILINE)
BLANK_LINES = re.compile(r"\n{3,}")
BOLD_MARK = "\x00"  # stands for the one star of mrkdwn's bold until italics are done; no input holds it
KEPT = "\x01"  # encloses the number of a finished piece; no input holds it


def safe(text: str, domains: Sequence[str] = ()) -> str:
    """Model text as safe mrkdwn; https links into these domains (and below them) are live. Total; empty when nothing
    printable is left.
    """
    tabled = _with_tables(printable(text)[:MODEL_LIMIT])
    pieces = CODE.split(tabled)  # prose, code, prose, code, …
    shown = "".join(_code(piece) if n % 2 else _prose(piece, domains) for n, piece in enumerate(pieces))
    return BLANK_LINES.sub("\n\n", without_special_tokens(shown)).strip()


def _with_tables(text: str) -> str:
    """Tables outside of code as code."""
    pieces = CODE.split(text)
    return "".join(
        piece if n % 2 else TABLE.sub(lambda m: f"\n```\n{as_text(m[0])}\n```\n", piece)
        for n, piece in enumerate(pieces)
    )


def printable(text: str) -> str:
    """The text without control, bidirectional and invisible characters and without special tokens of chat models."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return BLANK_LINES.sub("\n\n", without_special_tokens(STACKED.sub(r"\1", INVISIBLE.sub("", text))))


def without_special_tokens(text: str) -> str:
    """Also those that only appear when an inner one is taken out."""
    while True:
        shorter = SPECIAL.sub("", text)
        if shorter == text:
            return text
        text = shorter


def escape(text: str) -> str:
    """Slack's three escapes: after them nothing in the text can act."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def person(actor: str) -> bool:
    """Whether this is somebody in Slack, and not the clock, the gate or the command line."""
    return actor[:1] in ("U", "W") and actor.isalnum()


def who(actor: str) -> str:
    """Whoever did something, as people read it: a person by name, anything else as it is called."""
    return f"<@{actor}>" if person(actor) else escape(actor)


def _code(piece: str) -> str:
    if not piece.startswith("```"):
        return escape(piece)
    body = piece[3:].removesuffix("```") if len(piece) >= 6 else piece[3:].rstrip("`")
    first, newline, rest = body.partition("\n")
    if newline and re.fullmatch(r"[\w+#.-]{0,20}", first.strip()):
        body = rest
    return f"\n```\n{escape(body.strip(chr(10)).replace('```', ''))}\n```\n"


def _prose(piece: str, domains: Sequence[str]) -> str:
    kept: list[str] = []  # finished pieces, which nothing below may touch

    def keep(shown: str) -> str:
        kept.append(shown)
        return f"{KEPT}{len(kept) - 1}{KEPT}"

    text = LINK.sub(lambda m: _link(m, domains, keep), piece.replace("`", ""))
    text = ADDRESS.sub(lambda m: _address(m[0], domains, keep), text)
    text = escape(text)
    text = HEADING.sub(lambda m: f"{BOLD_MARK}{m[1].replace('**', '').replace('__', '')}{BOLD_MARK}", text)
    text = BULLET.sub(r"\1• ", text)
    text = BOLD.sub(lambda m: f"{BOLD_MARK}{m[2]}{BOLD_MARK}", text)
    text = ITALIC.sub(r"_\1_", text)
    text = STRIKE.sub(r"~\1~", text).replace(BOLD_MARK, "*")
    return re.sub(f"{KEPT}(\\d+){KEPT}", lambda m: kept[int(m[1])], text)


def _link(match: re.Match[str], domains: Sequence[str], keep: Callable[[str], str]) -> str:
    """`[docs](https://x)` → a live link where that is allowed, else `docs` and the address as code: read, never hidden."""
    label, target = match[1].strip(), match[2]
    if target.lower().startswith("mailto:"):
        address = target[7:]
        return address if label in ("", address) else f"{label} ({address})"
    if not target.lower().startswith(("http://", "https://")):
        return label
    if not is_allowed(target, domains):
        return keep(_as_code(target)) if label in ("", target) else f"{label} ({keep(_as_code(target))})"
    plain = re.sub(r"[*_~|<>]", "", label)
    return keep(_live(target, "" if LOOKS_LIKE_ADDRESS.search(plain) else plain))


def _address(found: str, domains: Sequence[str], keep: Callable[[str], str]) -> str:
    """An address in the text; the full stop or comma behind it is not part of it."""
    address = found.rstrip(".,;:!?*_~")
    shown = _live(address, "") if is_allowed(address, domains) else _as_code(address)
    return keep(shown) + found[len(address) :]


def is_allowed(target: str, domains: Sequence[str]) -> bool:
    """Whether an answer may link there: https, no user part, and a host that is one of the domains or below one."""
    try:
        parts = urlsplit(target)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if parts.scheme != "https" or parts.username is not None or not host.isascii() or "\\" in target:
        return False
    return any(host == d.lower() or host.endswith(f".{d.lower()}") for d in domains)


def _live(target: str, label: str) -> str:
    address = "".join(c if c.isascii() and c.isprintable() and c not in '<>|"`' else quote(c) for c in target)
    shown = escape(label)
    return f"<{address.replace('&', '&amp;')}|{shown}>" if shown else f"<{address.replace('&', '&amp;')}>"


def _as_code(target: str) -> str:
    return f"`{escape(target.replace('`', ''))}`"


def split(text: str, limit: int) -> tuple[str, ...]:
    """Safe text in parts of at most `limit` characters, cut before fences, at paragraphs, lines or words; every fence is
    balanced, and a table that must be cut has its head in every part.
    """
    parts, rest = [], text
    while len(rest) > limit:
        cut = _border(rest, limit - 4)
        head, rest = rest[:cut].rstrip(), rest[cut:].lstrip("\n")
        if head.count("```") % 2:
            opened = head.rsplit("```\n", 1)[-1].split("\n")
            again = "".join(f"{line}\n" for line in header_of(opened)) if sum(map(len, opened[:2])) < limit // 4 else ""
            head, rest = f"{head}\n```", f"```\n{again}{rest}"
        parts.append(head)
    return (*parts, rest) if rest.strip() else tuple(parts)


def _border(text: str, limit: int) -> int:
    """Where to cut: outside of code if that leaves a third of a part, else inside."""
    for mark in ("\n```", "\n\n", "\n", " "):
        found = text.rfind(mark, limit // 3, limit)
        while found > 0 and text[:found].count("```") % 2:  # inside a fence
            found = text.rfind(mark, limit // 3, found)
        if found > 0:
            return found
    for mark in ("\n", " "):
        found = text.rfind(mark, limit // 2, limit)
        if found > 0:
            return found
    opened = text.rfind("<", limit - 2_000 if limit > 2_000 else limit // 2, limit)
    if opened > 0 and ">" not in text[opened:limit] and opened > limit // 3:
        return opened  # never inside a link
    entity = text.rfind("&", limit - 5, limit)  # never inside &amp;
    cut = entity if entity > 0 and ";" not in text[entity:limit] else limit
    while cut > limit // 2 and text[cut - 1] == "`":  # never inside a fence
        cut -= 1
    return cut
