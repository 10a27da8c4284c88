"""A run as Slack sees it: within every limit, with the verdict in words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bot import report_card
from storage.records import Decision, Run

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
    from dataclasses import replace

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
    }
    return {
        "meaning": "better at support",
        "rows": [row] * rows,
        "candidate": "aaa",
        "champion": "none",
        "data": {"train_rows": 300},
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


@pytest.mark.parametrize(
    ("verdict", "live_as", "button"),
    [("PROMOTE", None, True), ("PROMOTE", 3, False), ("REFUSE", None, False), ("HOLD", None, False)],
)
def test_only_a_waiting_candidate_has_a_button(verdict: str, live_as: int | None, button: bool) -> None:
    card = report_card.report(run(state="decided"), view(), decision(verdict), live_as=live_as)

    assert (report_card.APPROVE_ACTION in str(card.blocks)) is button
    assert verdict in card.text and "<" not in card.text
    if button:
        assert f"7:{'a' * 64}" in str(card.blocks)


def test_the_button_goes_when_it_was_used() -> None:
    card = report_card.report(run(state="decided"), view(), decision(), live_as=None)

    after = report_card.approved(list(card.blocks), "U0INES", "v3")

    assert (
        "actions" not in [b["type"] for b in after]
        and "<@U0INES>" in str(after[-1])
        and len(after) == len(card.blocks) - 1
    )


def test_a_table_of_two_hundred_rows_stays_within_a_section() -> None:
    assert len(report_card.table(view(200)["rows"])) <= 3_000 and "more rows" in report_card.table(view(200)["rows"])
    assert report_card.table([]).startswith("```")
