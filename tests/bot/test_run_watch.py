"""A run's message, card, picture and losses: each once, over crashes, refusals and two bots at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from bot.app import Bot
from bot.run_watch import RunWatch
from bot.slack import SLACK_ERRORS
from storage.clock import to_text
from storage.ledger import Ledger
from storage.records import Run
from storage.settings import Settings
from tests.bot.conftest import OPS
from tests.bot.test_commands import decided
from tests.bot.test_report_card import view

LOSSES = [
    {
        "benchmark": "support · rouge l",
        "item_id": "ticket-7",
        "before": "0.80",
        "after": "0.10",
        "text": "Why <!here>?",
    },
    {"benchmark": "arc easy · acc", "item_id": "q3", "before": "right", "after": "wrong", "text": ""},
]
OLD = "2020-01-01T00:00:00.000000+00:00"


@pytest.fixture
def watch(still: Bot, ledger: Ledger) -> Iterator[RunWatch]:
    object.__setattr__(still.watch, "every_s", 0.0)
    yield still.watch


def started(ledger: Ledger, channel: str | None = OPS) -> Run:
    ledger.runs.request(reason="command", requested_by="U0INES", overrides={}, channel=channel)
    run = ledger.runs.claim(owner="worker", lease_s=60)
    assert run is not None
    return run


def ended(ledger: Ledger, folder: Path, run: Run, verdict: Any = "REFUSE", **changed: Any) -> Run:
    """The run decided, its report published with a picture."""
    decision_id = decided(ledger, verdict, "a" * 64, run.run_id)
    picture = folder / "gain_loss.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 64)
    points = [{"run_id": n, "version": None, "gain": float(n), "loss": 0.1} for n in range(1, 4)]
    shown = {**view(), "points": points, "regressions": LOSSES, **changed}
    ledger.add_report(run.run_id, shown, html_path="x", png_path=str(picture))
    return ledger.runs.advance(run, state="decided", lease_s=60, decision_id=decision_id)


def message(slack: Any, ledger: Ledger, run: Run) -> dict[str, Any]:
    now = ledger.runs.get(run.run_id)
    return dict(next(m for m in slack.messages(OPS) if now and m["ts"] == now.message_ts))


def thread(slack: Any, ledger: Ledger, run: Run) -> list[dict[str, Any]]:
    """What stands under the card."""
    return list(slack.messages(OPS, message(slack, ledger, run)["ts"])[1:])


def kinds(shown: dict[str, Any]) -> list[str]:
    return [block["type"] for block in shown.get("blocks") or []]


def test_a_run_ends_as_a_card_with_a_picture_and_the_worst_losses_below_it(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path
) -> None:
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run)

    for _ in range(3):
        watch.step()

    card = message(slack, ledger, run)
    assert kinds(card) == ["header", "section", "table", "data_visualization", "context"]
    assert "⛔ Run" in str(card["blocks"][0]) and "REFUSE" in card["text"]
    picture, losses = thread(slack, ledger, run)
    assert picture["files"][0]["title"].endswith("gain against loss") and "<@U0INES>" in picture["text"]
    text = str(losses["blocks"])
    assert "support · rouge l, ticket-7*: 0.80 → 0.10" in text and "acc, q3*: right → wrong" in text
    assert "&lt;!here&gt;" in text and "<!here>" not in text
    calls = len(slack.journal)
    watch.step()
    assert len(slack.journal) == calls, "all is said"


@pytest.mark.parametrize(
    ("refusals", "kept"),
    [
        (1, ["header", "section", "table", "context"]),
        (2, ["header", "section", "section", "context"]),
        (3, []),
    ],
)
@pytest.mark.parametrize("code", ["invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"])
def test_a_card_that_slack_does_not_like_is_said_more_plainly(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path, refusals: int, kept: list[str], code: str
) -> None:
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run)
    slack.fault("chat.update", "error", times=refusals, code=code)

    watch.step()

    card = message(slack, ledger, run)
    assert kinds(card) == kept and "REFUSE" in card["text"]
    assert len(thread(slack, ledger, run)) == 2


def test_another_refusal_is_not_taken_for_a_matter_of_looks(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path
) -> None:
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run)
    slack.fault("chat.update", "error", times=1, code="message_not_found")
    before = len(slack.calls("chat.update"))

    watch.step()

    assert len(slack.calls("chat.update")) == before + 1


@pytest.mark.parametrize("died_after", ["picture", "regressions"])
def test_a_bot_that_died_after_saying_a_thing_does_not_say_it_twice(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path, died_after: str
) -> None:
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run)
    watch.step()
    ts = message(slack, ledger, run)["ts"]
    posted = len(slack.messages(OPS))
    with ledger.connections.write() as db:
        db.execute("UPDATE notices SET ts=NULL, at=? WHERE key=?", (OLD, f"run:{run.run_id}:{died_after}"))

    watch.step()
    watch.step()

    assert message(slack, ledger, run)["ts"] == ts and len(slack.messages(OPS)) == posted
    assert len(thread(slack, ledger, run)) == 2
    assert ledger.notices.is_settled(f"run:{run.run_id}:{died_after}")


@pytest.mark.parametrize("over", [False, True])
def test_a_bot_that_died_after_announcing_a_run_is_followed_by_one_that_finds_the_message(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path, over: bool
) -> None:
    run, before = started(ledger), len(slack.messages(OPS))
    watch.step()
    with ledger.connections.write() as db:
        db.execute("UPDATE notices SET ts=NULL, at=?", (OLD,))
        db.execute("UPDATE runs SET message_ts=NULL")
    if over:
        ended(ledger, tmp_path, run)

    watch.step()
    watch.step()

    assert len(slack.messages(OPS)) == before + 1
    assert ("REFUSE" in message(slack, ledger, run)["text"]) is over


@pytest.mark.parametrize("kind", ["lost_response", "http_500", "ratelimited"])
@pytest.mark.parametrize("method", ["chat.postMessage", "files.completeUploadExternal", "files.getUploadURLExternal"])
def test_trouble_with_slack_neither_loses_nor_doubles_a_message(
    slack: Any, still: Bot, watch: RunWatch, ledger: Ledger, tmp_path: Path, method: str, kind: Any
) -> None:
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run)
    slack.fault(method, kind, times=1, **({"retry_after": 1} if kind == "ratelimited" else {}))

    def settle() -> bool:
        try:
            watch.step()
        except SLACK_ERRORS:
            return False
        return watch._is_over(ledger.runs.get(run.run_id) or run)

    slack.wait_for(settle, timeout=5)

    picture, losses = thread(slack, ledger, run)
    assert picture.get("files") and "where it lost most" in losses["text"]


def test_where_files_are_refused_the_word_stands_alone(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path
) -> None:
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run)
    slack.fault("files.getUploadURLExternal", "error", times=1, code="not_allowed_token_type")

    watch.step()
    with ledger.connections.write() as db:
        db.execute("UPDATE notices SET ts=NULL, at=? WHERE key LIKE '%picture'", (OLD,))
    watch.step()

    word, _ = thread(slack, ledger, run)
    assert not word.get("files") and "<@U0INES>" in word["text"] and "REFUSE" in word["text"]


@pytest.mark.parametrize("status", [202, 400])
def test_a_picture_whose_bytes_are_not_taken_gives_way_to_the_word_and_stalls_nothing(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("bot.workspace.server.PlainTextResponse", partial(PlainTextResponse, status_code=status))
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run)

    watch.step()

    word, losses = thread(slack, ledger, run)
    assert not word.get("files") and "<@U0INES>" in word["text"] and "where it lost most" in losses["text"]


def test_a_failed_run_has_its_word_and_no_losses(slack: Any, watch: RunWatch, ledger: Ledger) -> None:
    run = started(ledger)
    watch.step()
    ledger.runs.advance(run, state="failed", lease_s=60, error="Too little data")

    watch.step()
    watch.step()

    (word,) = thread(slack, ledger, run)
    assert "<@U0INES>" in word["text"] and "Too little data" in str(message(slack, ledger, run)["blocks"])


@pytest.mark.parametrize("losses", [[], None])
def test_without_losses_or_with_an_older_report_nothing_is_said_of_them(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path, losses: Any
) -> None:
    run = started(ledger)
    watch.step()
    ended(ledger, tmp_path, run, regressions=losses)

    watch.step()

    assert len(thread(slack, ledger, run)) == 1


def test_two_bots_announce_a_run_once_and_tell_its_thread_once(
    slack: Any, watch: RunWatch, ledger: Ledger, settings: Settings, tmp_path: Path
) -> None:
    bots = [RunWatch(settings=settings, ledger=ledger, client=watch.client, once=watch.once) for _ in range(4)]
    run, posted = started(ledger), len(slack.messages(OPS))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda bot: bot.step(), bots))
        list(pool.map(lambda bot: bot.step(), bots))
        assert len(slack.messages(OPS)) == posted + 1
        ended(ledger, tmp_path, run)
        list(pool.map(lambda bot: bot.step(), bots))

    watch.step()

    assert len(thread(slack, ledger, run)) == 2 and kinds(message(slack, ledger, run))[0] == "header"


def test_one_runs_trouble_keeps_no_other_from_being_shown(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path
) -> None:
    first = ended(ledger, tmp_path, started(ledger))
    second = started(ledger)
    slack.fault("chat.postMessage", "http_500", times=1)  # the newest run is looked at first

    with pytest.raises(SLACK_ERRORS):
        watch.step()

    assert "REFUSE" in message(slack, ledger, first)["text"]
    watch.step()
    assert ledger.runs.get(second.run_id) is not None and message(slack, ledger, second)


def test_a_waiting_card_of_last_week_is_still_voided(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path
) -> None:
    old = ended(ledger, tmp_path, started(ledger), "PROMOTE")
    watch.step()
    assert "actions" in kinds(message(slack, ledger, old))
    with ledger.connections.write() as db:
        db.execute("UPDATE runs SET finished_at=?", (OLD,))
    new = ended(ledger, tmp_path, started(ledger), "HOLD")

    watch.step()

    card = message(slack, ledger, old)
    assert "actions" not in kinds(card) and f"*Void*: run {new.run_id}" in str(card["blocks"][-1])


def test_a_report_that_comes_late_takes_the_place_of_the_apology(
    slack: Any, watch: RunWatch, ledger: Ledger, tmp_path: Path
) -> None:
    run = started(ledger)
    watch.step()
    decision_id = decided(ledger, "HOLD", "a" * 64, run.run_id)
    ledger.runs.advance(run, state="decided", lease_s=60, decision_id=decision_id)
    watch.step()
    assert "report could not be read" not in str(message(slack, ledger, run)["blocks"]), "it has 30 seconds"
    with ledger.connections.write() as db:
        db.execute("UPDATE runs SET finished_at=?", (_ago(ledger, 60),))
    watch.step()
    assert "report could not be read" in str(message(slack, ledger, run)["blocks"])

    ledger.add_report(run.run_id, view(), html_path="x", png_path="none")
    watch.step()

    assert "HOLD" in str(message(slack, ledger, run)["blocks"][0])


def _ago(ledger: Ledger, seconds: float) -> str:
    return to_text(ledger.clock() - timedelta(seconds=seconds))
