"""Model text made safe for Slack.

Promise: whatever the model wrote, the result holds no live mention, no link that hides its target, no control,
bidirectional or invisible character and no special token; it is Slack mrkdwn with balanced code fences. The proof
is simple: the result holds no `<` and no `>`, and Slack has no other syntax that acts.
"""

import re
import unicodedata

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
BOLD = re.compile(r"(\*\*|__)(?=\S)(.{1,500}?)(?<=\S)\1")
ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,500}?)(?<=[^\s*])\*(?![\w*])")
STRIKE = re.compile(r"~~(?=\S)(.{1,500}?)(?<=\S)~~")
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
BULLET = re.compile(r"^([ \t]*)[*+-][ \t]+(?=\S)", re.MULTILINE)
BLANK_LINES = re.compile(r"\n{3,}")
BOLD_MARK = "\x00"  # stands for the one star of mrkdwn's bold until italics are done; no input holds it


def safe(text: str) -> str:
    """Model text as safe mrkdwn. Total; empty when nothing printable is left."""
    pieces = CODE.split(printable(text)[:MODEL_LIMIT])  # prose, code, prose, code, …
    shown = "".join(_code(piece) if n % 2 else _prose(piece) for n, piece in enumerate(pieces))
    return BLANK_LINES.sub("\n\n", without_special_tokens(shown)).strip()


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


def _code(piece: str) -> str:
    if not piece.startswith("```"):
        return escape(piece)
    body = piece[3:].removesuffix("```") if len(piece) >= 6 else piece[3:].rstrip("`")
    first, newline, rest = body.partition("\n")
    if newline and re.fullmatch(r"[\w+#.-]{0,20}", first.strip()):
        body = rest
    return f"\n```\n{escape(body.strip(chr(10)).replace('```', ''))}\n```\n"


def _prose(piece: str) -> str:
    text = escape(LINK.sub(_link, piece.replace("`", "")))
    text = HEADING.sub(lambda m: f"{BOLD_MARK}{m[1].replace('**', '').replace('__', '')}{BOLD_MARK}", text)
    text = BULLET.sub(r"\1• ", text)
    text = BOLD.sub(lambda m: f"{BOLD_MARK}{m[2]}{BOLD_MARK}", text)
    text = ITALIC.sub(r"_\1_", text)
    return STRIKE.sub(r"~\1~", text).replace(BOLD_MARK, "*")


def _link(match: re.Match[str]) -> str:
    """`[docs](https://x)` → `docs (https://x)`: the target is read, never hidden."""
    label, target = match[1].strip(), match[2]
    if not target.lower().startswith(("http://", "https://", "mailto:")):
        return label
    return target if label in ("", target) else f"{label} ({target})"


def split(text: str, limit: int) -> tuple[str, ...]:
    """Safe text in parts of at most `limit` characters, cut at paragraphs, lines or words, every fence balanced."""
    parts, rest = [], text
    while len(rest) > limit:
        cut = _border(rest, limit - 4)
        head, rest = rest[:cut].rstrip(), rest[cut:].lstrip("\n")
        if head.count("```") % 2:
            head, rest = f"{head}\n```", f"```\n{rest}"
        parts.append(head)
    return (*parts, rest) if rest.strip() else tuple(parts)


def _border(text: str, limit: int) -> int:
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, limit // 2, limit)
        if found > 0:
            return found
    entity = text.rfind("&", limit - 5, limit)  # never inside &amp;
    cut = entity if entity > 0 and ";" not in text[entity:limit] else limit
    while cut > limit // 2 and text[cut - 1] == "`":  # never inside a fence
        cut -= 1
    return cut
