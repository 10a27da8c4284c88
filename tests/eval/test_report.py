"""The report card says what the decision says, on every face."""

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from eval.budget import budget_lines
from eval.gate import Policy, decide
from eval.report import publish, view
from eval.said import keep_said
from eval.suite import UNASKED
from eval.terminal import show
from storage.clock import utc_now
from storage.errors import UsageError
from storage.ledger import Ledger
from storage.records import Adapter, Scorecard
from tests.eval.cards import CANDIDATE, card, score
from tests.eval.trials import at_look, moved, shares, sure, with_support


def decided_run(ledger: Ledger, **candidate: float) -> int:
    return decided(ledger, card(None), card(CANDIDATE, **candidate))


def decided(ledger: Ledger, base: Scorecard, candidate: Scorecard) -> int:
    run_id = ledger.runs.request(reason="cli", requested_by="U0INES", overrides={})
    run = ledger.runs.claim(owner="test", lease_s=60)
    assert run
    ledger.lessons.add_adapter(
        Adapter(
            digest=CANDIDATE,
            base_digest="b" * 64,
            dataset_digest="d",
            path="p",
            recipe={"learning_rate": 0.001},
            run_id=run_id,
            stats={"tokens": 1000, "tokens_per_s": 210.0},
            created_at=utc_now(),
        )
    )
    decision = decide(base=base, champion=None, candidate=candidate, policy=Policy())
    number = ledger.promotions.decide(decision, run_id=run_id, actor="gate")
    ledger.runs.advance(run, state="decided", lease_s=60, decision_id=number)
    return run_id


def test_a_benchmark_that_nobody_could_be_asked_is_a_row_and_a_reason(ledger: Ledger, tmp_path: Path) -> None:
    why = "not on this disk. Next: evenkeel suite fetch"
    absent = replace(score("hellaswag", UNASKED, []), unit="", signature=why)
    base = card(None)

    run_id = decided(ledger, replace(base, scores=(*base.scores, absent)), card(CANDIDATE, support=1.0))

    shown = view(ledger, run_id)
    row = next(row for row in shown["rows"] if row["benchmark"] == "hellaswag")
    assert (row["state"], row["reference_text"], row["note"]) == ("unknown", "–", why)
    assert shown["reasons"] == [f"hellaswag (unasked): unknown, {why}"]
    assert why in publish(ledger, run_id, tmp_path).read_text()


class Links(HTMLParser):
    outside: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.outside = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [f"{tag} {v}" for k, v in attrs if k in ("src", "href") or (v or "").startswith("http")]


def test_a_promoted_and_a_refused_run_are_published_with_verdict_reasons_and_picture(
    ledger: Ledger, tmp_path: Path
) -> None:
    good = decided_run(ledger, support=1.0)
    bad = decided_run(ledger, support=1.0, text=1.53)

    pages = [publish(ledger, run, tmp_path) for run in (good, bad)]

    texts = [page.read_text() for page in pages]
    assert "PROMOTE" in texts[0] and "2 general scores stay within" in texts[0]
    assert "REFUSE" in texts[1] and "worse by 17" in texts[1] and "run 1 · PROMOTE" in texts[1]
    for page, text in zip(pages, texts, strict=True):
        links = Links()
        links.feed(text)
        assert links.outside == []
        assert (page.parent / "gain_loss.png").read_bytes().startswith(b"\x89PNG")
        assert "| benchmark |" in (page.parent / "report.md").read_text()
    report = ledger.report(bad)
    assert report and report["view"]["verdict"] == "REFUSE" and Path(report["png_path"]).is_file()


def test_the_terminal_shows_the_same_table(ledger: Ledger) -> None:
    run = decided_run(ledger, support=1.0, text=1.53)
    console = Console(file=io.StringIO(), width=200)

    show(view(ledger, run), console)

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "REFUSE" in text and "open text" in text and "lost" in text and "worse by 17" in text


def test_the_forgetting_budget_is_shown_with_the_path_of_the_champions(ledger: Ledger) -> None:
    first = decided_run(ledger, support=1.0, text=1.313)
    decision = ledger.runs.get(first)
    assert decision and decision.decision_id
    ledger.promotions.promote(decision.decision_id, actor="gate", reason="")
    champion = ledger.promotions.decision(decision.decision_id)
    assert champion

    second = decide(
        base=card(None),
        champion=card(CANDIDATE, support=1.0, text=1.313),
        candidate=card("e" * 64, support=0.95, text=1.3195),
        policy=Policy(),
    )

    assert view(ledger, first)["budget"] == [
        "Forgetting budget against the original base: this candidate would have spent 50 % of 2.0 % on open text."
    ]
    assert budget_lines(ledger, second) == [
        "Forgetting budget against the original base: this candidate would have spent 75 % of 2.0 % on open text.",
        "Most spent so far: v1 50 %.",
    ]


def test_the_looks_of_a_trial_are_drawn_against_their_boundaries(ledger: Ledger, tmp_path: Path) -> None:
    before = {name: sure(seed, 90) for seed, name in enumerate(("arc_easy", "piqa"))}
    base = with_support(shares(None, before), 1.2)
    after = {"arc_easy": moved(before["arc_easy"], 0.0, 0.02, 7), "piqa": moved(before["piqa"], -0.02, 0.05, 8)}
    looks = [at_look(with_support(shares(CANDIDATE, after), 1.0), look) for look in range(1, 5)]
    for one in (base, *looks):
        for measured in one.scores:
            ledger.scores.add(measured, base_digest=one.base_digest, adapter_digest=one.adapter_digest)
    run = decided(ledger, base, looks[-1])
    ledger.scores.add_card(base, run_id=run, subject="base")
    ledger.scores.add_card(looks[-1], run_id=run, subject="candidate")

    page = publish(ledger, run, tmp_path)
    pooled, lowest = view(ledger, run)["courses"]

    assert (pooled["name"], lowest["name"]) == ("general · all shares", "piqa · p(right)")
    assert [(p["look"], p["n"]) for p in lowest["points"]] == [(1, 15), (2, 30), (3, 45), (4, 60)]
    assert [p["at_end"] for p in lowest["points"]] == [False, False, False, True]
    assert [p["boundary"] for p in lowest["points"]] == pooled["boundaries"][:4]
    assert [p["height"] for p in pooled["points"]] == sorted(p["height"] for p in pooled["points"])
    for c in view(ledger, run)["rows"]:
        for course in (pooled, lowest):
            if course["name"] == c["name"]:
                last = course["points"][-1]
                assert (c["low"] > -c["margin"]) is (last["height"] > last["boundary"])
    assert "Looks against boundaries" in page.read_text() and page.read_text().count("<polyline") == 3
    assert (
        f"at the end (60 items) {lowest['points'][-1]['height']:+.1f}, boundary "
        in (page.parent / "report.md").read_text()
    )


def test_what_a_trial_never_asked_is_one_sentence_and_no_row(ledger: Ledger, tmp_path: Path) -> None:
    base, candidate = card(None), card(CANDIDATE, text=2.0)
    asked = tuple(s for s in candidate.scores if s.benchmark.startswith("open_text"))
    run = decided(ledger, base, replace(candidate, scores=asked))

    shown = view(ledger, run)

    assert [r["benchmark"] for r in shown["rows"]] == ["open_text"]
    assert (
        shown["unmeasured"].startswith("Not measured on the candidate: ")
        and "support · bits/byte" in shown["unmeasured"]
    )
    page = publish(ledger, run, tmp_path)
    for text in (page.read_text(), (page.parent / "report.md").read_text()):
        assert shown["unmeasured"] in text


ANSWER = "<script>alert(1)</script> [/red] | ```\n# Head\n" + "x" * 700


def run_with_items(ledger: Ledger, folder: Path) -> int:
    """A refused run of which one support item lost and one gained, with questions and answers that would break a page."""
    base, candidate = card(None), card(CANDIDATE, text=1.53)
    support, text, choice = candidate.scores
    other = tuple(replace(i, value={"i3": 4.0, "i5": 0.2}.get(i.item_id, i.value)) for i in support.items)
    base = replace(base, scores=(replace(base.scores[0], key="a" * 64), *base.scores[1:]))
    candidate = replace(candidate, scores=(replace(support, key="f" * 64, items=other), text, choice))
    run = decided(ledger, base, candidate)
    for subject, made in (("base", base), ("candidate", candidate)):
        for one in made.scores:
            ledger.scores.add(one, base_digest=one.key, adapter_digest=made.adapter_digest)
        ledger.scores.add_card(made, run_id=run, subject=subject)
    folder.mkdir(parents=True)
    rows = [{"lesson_id": i, "messages": [{"content": f"[/red] Where\x1b[31m is {i}?"}], "answer": "| Here. |"} for i in ("i3", "i5")]  # fmt: skip
    (folder / "holdout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keep_said(folder, "a" * 64, {"i3": "It is on its way.", "i5": ANSWER})
    keep_said(folder, "f" * 64, {"i3": ANSWER, "i5": "Here it is."})
    ledger.lessons.add_dataset("d1", str(folder), {})
    ledger.connections.db.execute("UPDATE runs SET dataset_digest='d1'")
    return run


def test_items_lost_and_gained_are_shown_with_both_answers_and_break_no_page(ledger: Ledger, tmp_path: Path) -> None:
    run = run_with_items(ledger, tmp_path / "datasets" / "d1")

    page = publish(ledger, run, tmp_path)

    html, plain = page.read_text(), (page.parent / "report.md").read_text()
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt; [/red] | ```" in html
    assert html.index("Every benchmark") < html.index("Items lost and gained") < html.index("<h2>Data</h2>")
    assert html.count("candidate said") == 2 and "It is on its way." in html and "Here it is." in html
    assert "x" * 600 not in html and "x…" in html
    assert "> &lt;script&gt;alert(1)&lt;/script&gt; [/red]".replace("[", "\\[").replace("]", "\\]") in plain
    rendered = MarkdownIt("commonmark").enable("table").render(plain)
    assert rendered.count("<table>") == 1 and rendered.count("<blockquote>") == 8
    assert "<script" not in rendered and "<code" not in rendered.split("Items lost and gained")[1].split("<img")[0]
    console = Console(file=io.StringIO(), width=250)
    show(view(ledger, run), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "lost support · bits per byte, i3: 1.18 bits/byte → 4.00 bits/byte  [/red] Where�[31m is i3?" in text
    assert "gained support · bits per byte, i5" in text and "\x1b" not in text


def test_without_texts_the_items_keep_their_numbers(ledger: Ledger, tmp_path: Path) -> None:
    run = run_with_items(ledger, tmp_path / "datasets" / "d1")
    (tmp_path / "datasets" / "d1").rename(tmp_path / "forgotten")

    page = publish(ledger, run, tmp_path)

    html, plain = page.read_text(), (page.parent / "report.md").read_text()
    assert "4.00 bits/byte" in html and "4.00 bits/byte" in plain
    assert "base said" not in html and "approved" not in html and "Asked:" not in plain


def test_a_run_whose_cards_are_gone_has_no_section_of_items(ledger: Ledger, tmp_path: Path) -> None:
    page = publish(ledger, decided_run(ledger, support=1.0), tmp_path)

    assert "Items lost and gained" not in page.read_text() + (page.parent / "report.md").read_text()


def test_every_face_says_what_would_change_the_verdict(ledger: Ledger, tmp_path: Path) -> None:
    run = decided_run(ledger, support=1.0, text=1.53)
    console = Console(file=io.StringIO(), width=250)

    page = publish(ledger, run, tmp_path)
    show(view(ledger, run), console)

    (line,) = view(ledger, run)["would_change"]
    assert line.startswith("open text (bits per byte): its loss of 17.6 % is 15.6 % past its margin of 2.0 %")
    faces = page.read_text(), (page.parent / "report.md").read_text(), console.file.getvalue()  # type: ignore[attr-defined]
    assert all("What would change the verdict" in face and line in face for face in faces)


def test_without_a_trial_there_are_no_looks_to_show(ledger: Ledger, tmp_path: Path) -> None:
    run = decided_run(ledger, support=1.0)

    assert view(ledger, run)["courses"] == []
    assert "Looks against boundaries" not in publish(ledger, run, tmp_path).read_text()


def test_a_run_without_a_decision_has_no_report(ledger: Ledger) -> None:
    run_id = ledger.runs.request(reason="cli", requested_by="me", overrides={})

    with pytest.raises(UsageError, match="no decision"):
        view(ledger, run_id)
