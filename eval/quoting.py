"""Other people's text on our pages: cut, and unable to break what it stands in. HTML is escaped by its template."""

import re

_MARKDOWN = re.compile(r"([\\`*_\[\]#|~!$])")
_BLOCK = re.compile(r"^(\d*)([-+=.)])")  # what would begin a list or underline a heading


def cut(text: str, most: int) -> str:
    """At most so many characters, the last of them … where something is left out; what UTF-8 cannot hold becomes ?."""
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= most else f"{whole[: most - 1].rstrip()}…"


def one_line(text: str, most: int) -> str:
    """For a terminal: printable characters alone, on one line."""
    return cut("".join(c if c.isprintable() else "�" for c in " ".join(text.split())), most)


def in_markdown(text: str) -> str:
    """One line that means the same to a reader of markdown as to one of plain text."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _BLOCK.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\1", plain))


def quoted(text: str) -> str:
    """A blockquote of markdown, line by line."""
    return "  \n".join(f"> {in_markdown(line)}".rstrip() for line in text.strip().splitlines())
