"""Other people's text on our pages."""

import pytest
from markdown_it import MarkdownIt

from eval.quoting import cut, in_markdown, one_line, quoted

NASTY = "<script>alert(1)</script>\n| a | b |\n|---|---|\n```\n# Head\n---\n===\n1. one\n- two\n\n    code\n[/red] ![x](http://y) &copy; *a* _b_ > q"


def test_a_text_is_cut_to_its_size_with_a_sign_of_it() -> None:
    assert cut("abc", 3) == "abc" and cut("abcd", 3) == "ab…" and cut("ab  cdef", 5) == "ab…"
    assert cut("\ud800", 9) == "?", "half a character cannot be written to a page"


def test_a_line_for_a_terminal_has_printable_characters_alone() -> None:
    assert one_line("a\n\tb\x1b[31m\u202ec", 80) == "a b�[31m�c"


def test_markdown_shows_a_quoted_text_as_it_is_and_nothing_gets_out_of_the_quote() -> None:
    page = MarkdownIt("commonmark").enable("table").render(quoted(NASTY) + "\n\nafter\n")

    assert page.startswith("<blockquote>") and page.endswith("</blockquote>\n<p>after</p>\n")
    assert page.count("<blockquote>") == 1
    for tag in ("<script", "<table", "<code", "<h1", "<h2", "<hr", "<ol", "<ul", "<img", "<a ", "<em"):
        assert tag not in page
    for shown in ("&lt;script&gt;", "| a | b |", "```", "# Head", "1. one", "- two", "[/red]", "&amp;copy;", "*a* _b_"):
        assert shown in page


@pytest.mark.parametrize("text", ["+ a", "12) a", "= b", "`a`", "a|b", "~~~"])
def test_a_line_begins_nothing(text: str) -> None:
    assert MarkdownIt("gfm-like", {"linkify": False}).render(in_markdown(text)) == f"<p>{text}</p>\n"
