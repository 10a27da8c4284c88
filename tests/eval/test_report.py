"""The report card says what the decision says, on every face."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from bot import report_card
from eval.budget import budget_lines
from eval.gate import Policy, decide
from eval.picture import draw
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
from tests.training.test_dataset import build, ticket


def decided_run(ledger: Ledger, **candidate: float) -> int:
    return decided(ledger, card(None), card(CANDIDATE, **candidate))


def decided(ledger: Ledger, base: Scorecard, candidate: Scorecard, champion: Scorecard | None = None) -> int:
    run_id = ledger.runs.request(reason="cli", requested_by="U0INES", overrides={})
    run = ledger.runs.claim(owner="test", lease_s=60)
    assert run
    ledger.lessons.add_adapter(
        Adapter(
            digest=candidate.adapter_digest or "",
            base_digest="b" * 64,
            dataset_digest="d",
            path="p",
            recipe={"learning_rate": 0.001, "seed": 17},
            run_id=run_id,
            stats={"tokens": 1000, "tokens_per_s": 210.0},
            created_at=utc_now(),
        )
    )
    decision = decide(base=base, champion=champion, candidate=candidate, policy=Policy())
    number = ledger.promotions.decide(decision, run_id=run_id, actor="gate")
    ledger.runs.advance(run, state="decided", lease_s=60, decision_id=number)
    return run_id


def promoted(ledger: Ledger, made: Scorecard, champion: Scorecard | None = None) -> int:
    """A run whose candidate became champion: its decision rests on scores that the ledger has."""
    base = card(None)
    for one in (base, made):
        for measured in one.scores:
            ledger.scores.add(measured, base_digest=one.base_digest, adapter_digest=one.adapter_digest)
    run_id = decided(ledger, base, made, champion)
    run = ledger.runs.get(run_id)
    assert run and run.decision_id
    ledger.promotions.promote(run.decision_id, actor="gate", reason="")
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
    first = promoted(ledger, card(CANDIDATE, support=1.0, text=1.313))

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


def test_the_champions_path_is_drawn_through_their_versions_and_not_through_who_was_refused(
    ledger: Ledger, tmp_path: Path
) -> None:
    first, second = card(CANDIDATE, support=1.0, text=1.313), card("e" * 64, support=0.9, text=1.3)
    alone = publish(ledger, promoted(ledger, first), tmp_path).read_text()
    refused = decided(ledger, card(None), card("f" * 64, support=0.8, text=1.53), first)
    pages = [publish(ledger, run, tmp_path) for run in (refused, promoted(ledger, second, first))]

    shown = [view(ledger, run)["path"] for run in (1, 2, 3)]

    assert [[p["version"] for p in path] for path in shown] == [[], [], [1, 2]]
    assert [p["run_id"] for p in shown[2]] == [1, 3] and shown[2][0]["gain"] < shown[2][1]["gain"]
    assert "<polyline" not in alone + pages[0].read_text()
    page = pages[1].read_text()
    assert page.count("<polyline") == 1 and "the champions' path: v1 → v2" in page
    (ends,) = re.findall(r'<polyline class="path" points="([^"]*) "', page)
    dots = re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', page.split("</svg>")[0])
    assert [",".join(dot) for dot in (dots[0], dots[2])] == ends.split(), "from the first champion to the second"
    assert ">v1</text>" in page and ">v2 · run 3 · PROMOTE · +2" in page and ">run 2 · REFUSE · +3" in page
    console = Console(file=io.StringIO(), width=250)
    show(view(ledger, 3), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for row in ("run 1 · v1 .*PROMOTE", "run 2 .* 8[0-9.]+ margins +REFUSE", r"run 3 · v2 +\+2[0-9.]+ % .*PROMOTE"):
        assert re.search(row, text), row


def test_the_picture_has_the_path_where_there_is_one(tmp_path: Path) -> None:
    champions = [{"run_id": n, "version": n, "verdict": "PROMOTE", "gain": 9.0 * n, "loss": 0.4 * n, "label": f"v{n}", "now": n == 2, "past": n == 1} for n in (1, 2)]  # fmt: skip

    drawn = [draw(champions, path, tmp_path / f"{n}.png").read_bytes() for n, path in enumerate(([], champions))]

    assert drawn[0].startswith(b"\x89PNG") and drawn[0] != drawn[1]


def test_the_data_and_where_all_came_from_are_on_every_page(ledger: Ledger, tmp_path: Path) -> None:
    dataset = build([ticket(n) for n in range(40)], left_out={"no consent": 3})
    run = decided_run(ledger, support=1.0)
    ledger.lessons.add_dataset(dataset.digest, str(tmp_path / "gone"), dataset.manifest)
    ledger.connections.db.execute("UPDATE runs SET dataset_digest=?", (dataset.digest,))

    page, console = publish(ledger, run, tmp_path), Console(file=io.StringIO(), width=400)
    show(view(ledger, run), console)

    data, said = view(ledger, run)["data_card"], view(ledger, run)["provenance"]
    rows = f"{len(dataset.train)} ({sum(x.source == 'replay' for x in dataset.train)} replay, "
    assert data["training rows"].startswith(rows) and "3 no consent" in data["left out"]
    assert data["holdout rows"].startswith(f"{len(dataset.holdout)} from ") and data["redacted"] == "nothing"
    assert (said["base"], said["candidate"], said["dataset"]) == ("b" * 64, CANDIDATE, dataset.digest)
    assert (said["seed"], said["champion"]) == ("17", "none") and "learning_rate=0.001" in said["recipe"]
    assert "margin_points=7.5" in said["policy"] and "must_gain=support/bits_per_byte" in said["policy"]
    assert said["asked"].endswith(" by U0INES") and said["decided"].endswith(" by gate")
    faces = page.read_text(), (page.parent / "report.md").read_text(), console.file.getvalue()  # type: ignore[attr-defined]
    for face in faces:
        assert all(name in face and text in face for name, text in (data | said).items())


def test_a_view_of_an_older_release_is_still_shown_on_a_terminal(ledger: Ledger) -> None:
    shown = view(ledger, decided_run(ledger, support=1.0, text=1.53))
    new = ("path", "data_card", "provenance", "items", "courses", "would_change", "budget", "doubt", "unmeasured")
    points = [
        {name: p[name] for name in ("run_id", "verdict", "version", "gain", "loss", "now")} for p in shown["points"]
    ]
    console = Console(file=io.StringIO(), width=200)

    show({**{name: value for name, value in shown.items() if name not in new}, "points": points}, console)

    assert "worse by 17" in console.file.getvalue()  # type: ignore[attr-defined]


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
    said = f"at the end (60 items) {lowest['points'][-1]['height']:+.1f}, boundary "
    console = Console(file=io.StringIO(), width=400)
    show(view(ledger, run), console)
    assert said in (page.parent / "report.md").read_text() and said in console.file.getvalue()  # type: ignore[attr-defined]


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
    assert "\n    base said: “It is on its way.”\n    candidate said: “<script>alert(1)</script> [/red] | ```" in text
    assert text.count("candidate said: “") == 2 and "x" * 160 not in text, "short, and nothing of it is markup"
    counted = view(ledger, run)["items"]["said"]
    assert counted.startswith("Of 180 items, ") and all(counted in face for face in (html, plain, text))


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


FIGURES = ("name", "n", "reference_text", "candidate_text", "gain_text", "margin_text", "said")


def cells_of(faces: dict[str, str], card: Sequence[dict[str, Any]]) -> dict[str, list[set[str]]]:
    """The cells of each line that a face has."""
    lines = {
        "html": [re.findall(r"<td[^>]*>([^<]*)", line) for line in faces["html"].splitlines()],
        "markdown": [re.split(r"\||: ", line) for line in faces["markdown"].splitlines()],
        "terminal": [re.split(r"\s{2,}| → ", line.strip()) for line in faces["terminal"].splitlines()],
        "slack": [
            [cell["text"] for cell in row] for block in card if block["type"] == "table" for row in block["rows"]
        ],
    }
    return {face: [set(map(str.strip, line)) for line in found] for face, found in lines.items()}


@pytest.mark.parametrize("lost", [{}, {"text": 1.53}, {"text": 1.322}])
def test_every_face_says_the_same_verdict_figures_and_what_would_change(
    ledger: Ledger, tmp_path: Path, lost: dict[str, float]
) -> None:
    run_id = decided_run(ledger, support=1.0, **lost)
    run = ledger.runs.get(run_id)
    decision = ledger.promotions.decision(run.decision_id or 0) if run else None
    assert run and decision

    page, console = publish(ledger, run_id, tmp_path), Console(file=io.StringIO(), width=300)
    shown = (ledger.report(run_id) or {})["view"]
    show(shown, console)
    card = report_card.report(run, shown, decision, None)[0].blocks

    faces = {
        "html": page.read_text(),
        "markdown": (page.parent / "report.md").read_text(),
        "terminal": console.file.getvalue(),  # type: ignore[attr-defined]
        "slack": "\n".join(text for block in card for text in texts_of(block)),
    }
    for face, text in faces.items():
        for said in (decision.verdict, shown["meaning"], *shown["reasons"], *shown["budget"], *shown["would_change"]):
            assert said in text, face
        assert "What would change the verdict" in text and shown["candidate"] in text, face
    for face, lines in cells_of(faces, card).items():
        for row in (row for row in shown["rows"] if row["gates"]):
            assert any({str(row[name]) for name in FIGURES} <= line for line in lines), f"{face}: {row['name']}"


def texts_of(block: dict[str, Any]) -> list[str]:
    parts = [block["text"]] if "text" in block else block.get("elements", [])
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


def test_without_a_trial_there_are_no_looks_to_show(ledger: Ledger, tmp_path: Path) -> None:
    run = decided_run(ledger, support=1.0)

    assert view(ledger, run)["courses"] == []
    assert "Looks against boundaries" not in publish(ledger, run, tmp_path).read_text()


def test_a_run_without_a_decision_has_no_report(ledger: Ledger) -> None:
    run_id = ledger.runs.request(reason="cli", requested_by="me", overrides={})

    with pytest.raises(UsageError, match="no decision"):
        view(ledger, run_id)
