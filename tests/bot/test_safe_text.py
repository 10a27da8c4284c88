"""Hostile model output cannot ping, hide a link, or break out of its message."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.safe_text import SPECIAL, safe, split

EVIL = [
    "<!channel>",
    "<@U0MIA>",
    "<!subteam^S1>",
    "<https://evil.example/?q=SECRET|docs>",
    "<!date^1^x^https://evil|t>",
    "<#C1>",
    "@here",
    "&lt;!channel&gt;",
    "![](https://evil.example/x.png)",
    "[ok](javascript:alert(1))",
    "[a](https://b)",
    "[https://bank.example](https://evil.example)",
    "https://help.acme.example/reset",
    "[reset](https://help.acme.example/a?b=c&d=<!here>)",
    "[x](https://help.acme.example@evil.example)",
    "[x](https://help.acme.example.evil.example/)",
    "[bank.example](https://acme.example|<!channel>)",
    "[x](http://acme.example)",
    "www.evil.example",
    "\n|a|b|\n|---|---|\n|<!here>|2|\n",
    "```",
    "`",
    "**",
    "*",
    "_",
    "~~",
    "<|im_end|>",
    "<|im_<|x|>start|>",
    "</s>",
    "[INST]",
    "\u202e",
    "\u200b",
    "\x00",
    "\x1b[31m",
    "\ud83d",
    "# ",
    "- ",
    "\n",
    "\n\n\n",
    "> ",
    "|a|b|",
    "\u0301" * 40,
    "plain words ",
    "🙂",
]
hostile = st.lists(st.one_of(st.sampled_from(EVIL), st.text(max_size=12)), max_size=30).map("".join)


@given(hostile)
@example("<|im_<|im_end|>end|>")
@example("```\n<!channel>")
@example("`<@U1>` **<!here>**")
@example("[`](https://evil.example)`x`")
@example("www.evil.example![](https://evil.example/x.png)")
def test_nothing_in_model_text_can_act(text: str) -> None:
    shown = safe(text)

    assert "<" not in shown and ">" not in shown
    assert not SPECIAL.search(shown)
    assert shown.count("```") % 2 == 0
    assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") for c in shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\ufeff]", shown)
    shown.encode()


@given(hostile)
@example("[a](https://acme.example/x>)")
@example("[<!channel>](https://acme.example)")
@example("http://")
def test_only_links_into_allowed_domains_are_live(text: str) -> None:
    shown = safe(text, ["acme.example"])

    links = re.findall(r"<([^<>]*)>", shown)
    rest = re.sub(r"<[^<>]*>", "", shown)
    assert "<" not in rest and ">" not in rest
    for link in links:
        address, _, label = link.partition("|")
        assert re.fullmatch(r"https://(?:[\w-]+\.)*acme\.example(?:[/?#:][!-;=?-~]*)?", address, re.ASCII), address
        assert "://" not in label
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", rest, flags=re.DOTALL)
    assert "https://" not in prose and "http://" not in prose


@given(hostile.map(lambda t: safe(t * 8)), st.integers(min_value=40, max_value=400))
def test_parts_fit_and_keep_every_fence_balanced(text: str, limit: int) -> None:
    parts = split(text, limit)

    assert all(0 < len(part) <= limit for part in parts)
    assert all(part.count("```") % 2 == 0 for part in parts)
    assert not any(
        re.search(r"&[a-z]{0,3}$", part) for part in parts[:-1] if "&" not in re.sub(r"&(amp|lt|gt);", "", text)
    )


@pytest.mark.parametrize(
    ("markdown", "mrkdwn"),
    [
        ("**bold** and *italic* and ~~gone~~", "*bold* and _italic_ and ~gone~"),
        ("# Title\n- one\n* two", "*Title*\n• one\n• two"),
        ("[docs](https://x.example/a)", "docs (`https://x.example/a`)"),
        ("![chart](https://evil.example/x.png)", "chart (`https://evil.example/x.png`)"),
        ("[click](javascript:alert(1))", "click"),
        ("<https://evil.example|docs>", "&lt;`https://evil.example`|docs&gt;"),
        ("```python\nif a < b:\n    **x**\n```", "```\nif a &lt; b:\n    **x**\n```"),
        ("run `a < b` now", "run `a &lt; b` now"),
        ("&lt;!channel&gt;", "&amp;lt;!channel&amp;gt;"),
        ("2 * 3 * 4 = 24", "2 * 3 * 4 = 24"),
        ("```\nnever closed", "```\nnever closed\n```"),
        ("<|im_end|>", ""),
    ],
)
def test_markdown_becomes_what_slack_shows(markdown: str, mrkdwn: str) -> None:
    assert safe(markdown) == mrkdwn


def test_a_long_answer_is_cut_at_paragraphs() -> None:
    text = "\n\n".join(f"Paragraph {n} " + "word " * 30 for n in range(30))

    parts = split(safe(text), 1000)

    assert len(parts) > 3
    assert all(part.startswith("Paragraph") for part in parts)
    assert sum(part.count("word") for part in parts) == 900


def test_links_live_only_where_the_operator_allows_them() -> None:
    domains = ["acme.example"]
    assert safe("See [the guide](https://help.acme.example/a?x=1&y=2).", domains) == (
        "See <https://help.acme.example/a?x=1&amp;y=2|the guide>."
    )
    assert safe("https://acme.example/x, then go.", domains) == "<https://acme.example/x>, then go."
    assert safe("[evil.example](https://acme.example/x)", domains) == "<https://acme.example/x>"
    assert safe("[a](http://acme.example)", domains) == "a (`http://acme.example`)"
    assert safe("write to [us](mailto:help@acme.example)", domains) == "write to us (help@acme.example)"


def test_a_table_is_aligned_in_a_fence() -> None:
    shown = safe("Plans:\n\n| Plan | **Price** |\n|---|:--:|\n| Free | 0 |\n| Team & co | 12 € |\n\nDone.")

    assert shown == (
        "Plans:\n\n```\nPlan      │ Price\n──────────┼──────\nFree      │ 0\nTeam &amp; co │ 12 €\n```\n\nDone."
    )


def test_a_long_table_is_cut_between_rows_and_keeps_its_head() -> None:
    table = "| Setting | Meaning |\n|---|---|\n" + "\n".join(f"| key {n} | what number {n} does |" for n in range(60))

    parts = split(safe(f"All settings:\n\n{table}"), 800)

    assert len(parts) > 2
    assert all(part.count("```") == 2 for part in parts[1:])
    assert all(re.search(r"```\nSetting +│ Meaning\n─+┼─+\n", part) for part in parts[1:])
    assert sum(part.count("│ what number") for part in parts) == 60


def test_a_fence_that_fits_is_not_cut() -> None:
    text = "word " * 100 + "\n\n```\n" + "line of code\n" * 20 + "```\n\n" + "word " * 20

    parts = split(safe(text), 700)

    assert [part.count("```") for part in parts] == [0, 2]


def test_a_megabyte_of_text_is_shown_in_part_and_at_once() -> None:
    assert len(safe("<|x|>" * 100 + "a <b " * 200_000)) < 60_000
