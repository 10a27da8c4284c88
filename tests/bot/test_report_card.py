"""A run as Slack sees it: within every limit, with the verdict in words."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

from bot import figures, report_card
from bot.workspace import limits
from storage.records import Decision, Run
from storage.standing import Standing
from tests.training.test_dataset import build, ticket

RUN = Run(
    run_id=4,
    state="training",
    reason="command",
    requested_by="U0INES",
    requested_at=datetime.now(UTC),
    overrides={},
    channel="C0OPS",
    message_ts=None,
    dataset_digest=None,
    adapter_digest=None,
    decision_id=7,
    progress={},
    error="",
    cancel_requested=False,
    fence=1,
    started_at=None,
    finished_at=None,
)


def run(**changes: Any) -> Run:
    return replace(RUN, **changes)


def decision(verdict: Any = "PROMOTE") -> Decision:
    return Decision(
        verdict=verdict,
        reasons=("target gained 0.2 <really>",),
        comparisons=(),
        base_digest="b",
        champion_digest=None,
        candidate_digest="a" * 64,
        policy={},
    )


@cache
def manifest() -> dict[str, Any]:
    """Of a dataset as a run builds it."""
    return build([ticket(n) for n in range(40)]).manifest


def view(rows: int = 4) -> dict[str, Any]:
    row = {
        "name": "arc easy · acc",
        "against": "base",
        "reference_text": "0.51",
        "candidate_text": "0.52",
        "gain_text": "+1.0 points",
        "margin_text": "7.5 points",
        "said": "kept",
        "gates": True,
        "n": 60,
    }
    return {
        "meaning": "better at support",
        "rows": [row] * rows,
        "candidate": "aaa",
        "champion": "none",
        "data": manifest(),
    }


def test_progress_says_stage_share_and_time_left() -> None:
    shown = report_card.progress(
        run(
            progress={
                "stage": "training",
                "stage_no": 2,
                "stages": 4,
                "done": 30,
                "total": 60,
                "unit": "steps",
                "loss": 1.234,
                "tokens_per_s": 201.4,
                "eta_s": 125,
                "text": "<b>",
            }
        )
    ).blocks[0]["text"]["text"]

    assert "Stage 2 of 4: training" in shown and "50%" in shown and "30 of 60 steps" in shown
    assert "loss 1.234 · 201 tokens/s · about 2 min 5 s left" in shown and "&lt;b&gt;" in shown


@pytest.mark.parametrize(
    "progress", [{}, {"stage": "building"}, {"total": 0, "done": 0}, {"done": 9, "total": 3, "unit": None}]
)
def test_a_sparse_progress_is_still_a_message(progress: dict[str, Any]) -> None:
    assert "Run 4" in report_card.progress(run(progress=progress)).text


def test_a_failed_run_says_why_and_what_serves() -> None:
    shown = str(report_card.ended(run(state="failed", error="Too little data: 3 lessons")).blocks)

    assert "Too little data" in shown and "stays as it was" in shown


WAITING, LIVE = Standing(state="waiting"), Standing(state="live", by="U0INES", version=3, serves=True)


@pytest.mark.parametrize(
    ("verdict", "standing", "buttons"),
    [("PROMOTE", WAITING, 3), ("PROMOTE", LIVE, 0), ("REFUSE", None, 0), ("HOLD", None, 0)],
)
def test_only_a_waiting_candidate_has_buttons(verdict: str, standing: Standing | None, buttons: int) -> None:
    forms = report_card.report(run(state="decided"), view(), decision(verdict), standing)

    for card in forms[:-1]:
        assert str(card.blocks).count("'type': 'button'") == buttons
        assert len(card.blocks) <= 12
        limits.check_blocks(list(card.blocks), most=limits.MESSAGE_BLOCKS)
    assert verdict in forms[0].text and "<" not in forms[0].text
    assert str(forms[0].blocks).count(f"7:{'a' * 64}") == buttons


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (LIVE, "*v3 is live*, approved by <@U0INES>"),
        (Standing(state="live", by="gate", version=3, serves=True), "*v3 is live*"),
        (Standing(state="live", by="U0INES", version=3), "*v3 went live*, approved by <@U0INES>. It does not serve"),
        (
            Standing(state="kept", by="U0INES", at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
            "<@U0INES> at 2026-01-02 03:04",
        ),
        (Standing(state="void", run_id=9), "run 9 was decided since"),
        (Standing(state="moved"), "another model serves"),
    ],
)
def test_the_card_says_what_became_of_the_candidate(standing: Standing, said: str) -> None:
    card = report_card.report(run(state="decided"), view(), decision(), standing)[0]

    assert said in str(card.blocks[-1]) and "actions" not in [block["type"] for block in card.blocks]


def test_a_card_has_a_table_two_charts_and_plainer_forms() -> None:
    points = [{"run_id": n, "version": n if n < 3 else None, "gain": float(n)} for n in range(1, 30)]
    rows = [
        {**row, "benchmark": f"b{n}", "margin": 7.5, "gain": -n, "domain": "general"}
        for n, row in enumerate(view(30)["rows"])
    ]

    rich, tabled, spaced, plain = report_card.report(
        run(state="decided"),
        {**view(), "rows": rows, "points": points, "doubt": "It is unsure."},
        decision("HOLD"),
        None,
    )

    kinds = [block["type"] for block in rich.blocks]
    assert kinds == ["header", "section", "table", "data_visualization", "data_visualization", "context"]
    gains, losses = rich.blocks[3]["chart"], rich.blocks[4]["chart"]
    assert gains["axis_config"]["categories"][-1] == "run 29" and len(gains["series"][0]["data"]) == 12
    assert losses["series"][0]["data"][0] == {"label": "b29", "value": 3.87} and len(losses["series"][0]["data"]) == 8
    assert "data_visualization" not in str(tabled.blocks) and "'table'" in str(tabled.blocks)
    assert "'table'" not in str(spaced.blocks) and "```" in str(spaced.blocks)
    assert plain.blocks == () and "HOLD" in plain.text and "aaa" in plain.text
    assert "It is unsure" in str(rich.blocks)
    for form in (rich, tabled, spaced):
        limits.check_blocks(list(form.blocks), most=limits.MESSAGE_BLOCKS)


MOVED = {
    "said": "Of 60 items, 7 lost and 9 gained, however little.",
    "lost": [{"benchmark": "open text", "item_id": "i7 <!here>", "before": "1.30", "after": "9.00", "question": "Where?", "base": "It"}],
    "gained": [{"benchmark": "support", "item_id": "i5", "before": "1.20", "after": "0.20", "question": "Why?", "base": "So"}],
}  # fmt: skip


def test_a_card_says_what_would_change_what_is_spent_what_moved_and_on_how_many_rows_it_learned() -> None:
    lines = ["arc easy <acc>: " + "x" * 5_000, "piqa: about 300 items would decide.", "a third", "a fourth"]
    spent = ["This candidate would have spent 50 % of 2.0 % on open text.", "Most spent so far: v1 40 %."]

    forms = report_card.report(
        run(state="decided"),
        {**view(), "would_change": lines, "budget": spent, "items": MOVED},
        decision("PROMOTE"),
        WAITING,
    )

    for form in forms[:-1]:
        limits.check_blocks(list(form.blocks), most=limits.MESSAGE_BLOCKS)
        assert [block["type"] for block in form.blocks][:3] == ["header", "section", "section"]
        turns, facts = form.blocks[2]["text"]["text"], next(b for b in form.blocks if b["type"] == "context")
        said = facts["elements"][0]["text"].split("\n")
        assert turns.startswith("*What would change the verdict*\n• arc easy &lt;acc&gt;: xxx") and len(turns) < 600
        assert turns.endswith("• piqa: about 300 items would decide.\n_2 more on the report's page._")
        assert said[:-1] == [
            " ".join(spent),
            MOVED["said"],
            "Lost most: open text, i7 &lt;!here&gt;: 1.30 → 9.00",
            "Gained most: support, i5: 1.20 → 0.20",
        ]
        assert said[-1].endswith(f" · {manifest()['train']['rows']} training rows")
        assert "Where?" not in str(form.blocks) and "Why?" not in str(form.blocks), "nobody's words"
    table = forms[0].blocks[3]
    assert [row[2]["text"] for row in table["rows"]] == ["n", *["60"] * 4]


def test_a_view_without_its_items_or_its_manifest_is_still_a_card() -> None:
    bare = {name: value for name, value in view().items() if name != "data"}

    for shown in (bare, {**bare, "data": None}, {**bare, "data": {}, "items": {"lost": [], "gained": []}}):
        card = report_card.report(run(state="decided"), shown, decision("HOLD"), None)[0]
        assert [block["type"] for block in card.blocks] == ["header", "section", "table", "context"]
        assert "training rows" not in str(card.blocks)


@pytest.mark.parametrize("broken", [math.nan, math.inf, None, "7"])
def test_a_number_that_is_none_draws_nothing(broken: Any) -> None:
    row = {**view(1)["rows"][0], "benchmark": "x", "margin": broken, "gain": broken, "domain": "general"}

    assert figures.dearest([row]) is None and figures.gains([{"run_id": 1, "gain": broken}]) is None


def test_many_rows_stay_within_slacks_limits_with_the_losses_first() -> None:
    rows = [*view(200)["rows"], {**view(1)["rows"][0], "name": "the lost one", "said": "lost"}]

    block = figures.cells(rows)

    limits.check_blocks([block], most=1)
    assert block["rows"][1][0]["text"] == "the lost one" and len(block["rows"]) == 41
    assert len(figures.table(rows)) <= 3_000 and "more rows" in figures.table(rows)
    assert figures.table([]).startswith("```")


def test_the_worst_losses_can_ping_nobody() -> None:
    losses = [
        {"benchmark": "b <!here>", "item_id": "i" * 500, "before": "1", "after": "0", "text": "<!channel>\n" * 99}
    ]

    part = report_card.regressions(run(), losses * 5)

    limits.check_blocks(list(part.blocks), most=limits.MESSAGE_BLOCKS)
    assert "<!" not in str(part.blocks) and "1 → 0" in str(part.blocks) and "5. *b" in str(part.blocks)
