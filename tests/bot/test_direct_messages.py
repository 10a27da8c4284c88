"""A direct message is answered as a native stream, and every way in which a stream can fail ends in one whole answer."""

from typing import Any

import pytest

from bot.app import Bot, build_bot
from bot.preview import whole_lines
from bot.slack import make_client, who_am_i
from storage.ledger import Ledger
from storage.settings import Settings
from tests.bot.conftest import Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import bots, final
from tests.bot.test_crashes import Killed, kill_at, later

LONG = " ".join(f"Step {n}: open the page and press **save** now." for n in range(12))


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What grows is shown every tenth of a second."""
    monkeypatch.setattr("bot.preview.APPEND_EVERY_S", 0.1)


def asked(slack: Any, user: str = "U0MIA") -> tuple[str, str]:
    channel = slack.dm(user)
    return channel, slack.say(user, channel, "How do I reset my password?")


def calls(slack: Any, method: str, ts: str) -> list[dict[str, Any]]:
    """What the bot called with this thread or with one of its messages."""
    channel = slack.dm("U0MIA")
    ours = {ts, *(m["ts"] for m in bots(slack, channel, ts))}
    return [
        c["args"]
        for c in slack.journal
        if c["method"] == method and {c["args"].get("thread_ts"), c["args"].get("ts")} & ours
    ]


def test_it_streams_to_its_recipient_and_ends_with_the_rating_buttons(
    slack: Any, live: Live, engine: ModelServer
) -> None:
    engine.text, engine.delay_s = LONG, 0.008
    channel, ts = asked(slack)
    slack.wait_for(lambda: any(m.get("streaming") for m in bots(slack, channel, ts)))

    (answer,) = final(slack, channel, ts)

    (start,) = calls(slack, "chat.startStream", ts)
    assert (start["recipient_user_id"], start["recipient_team_id"], start["thread_ts"]) == ("U0MIA", "T0DEMO", ts)
    assert len(calls(slack, "chat.appendStream", ts)) >= 1
    assert not calls(slack, "chat.postMessage", ts)
    assert (
        answer["text"].startswith("Step 0: open the page and press *save* now.") and answer["text"].count("Step") == 12
    )
    assert "evenkeel_feedback" in str(answer["blocks"])
    shown = [c["args"].get("status") for c in slack.journal if c["method"] == "agents.sessions.setStatus"]
    assert shown[-2:] == ["processing", "active"]


def test_what_is_appended_only_grows(slack: Any, live: Live, engine: ModelServer) -> None:
    engine.text, engine.delay_s = LONG, 0.008
    channel, ts = asked(slack)
    final(slack, channel, ts)

    pieces = [c["markdown_text"] for m in ("chat.startStream", "chat.appendStream") for c in calls(slack, m, ts)]
    assert whole_lines(LONG + " ", ()).startswith("".join(pieces))


@pytest.mark.parametrize(
    ("method", "kind", "details"),
    [
        ("chat.startStream", "ratelimited", {"retry_after": 1}),
        ("chat.startStream", "error", {"code": "not_allowed"}),
        ("chat.startStream", "http_500", {}),
        ("chat.startStream", "lost_response", {}),
        ("chat.appendStream", "error", {"code": "message_not_in_streaming_state"}),
        ("chat.appendStream", "lost_response", {}),
        ("chat.stopStream", "lost_response", {}),
        ("chat.stopStream", "http_500", {}),
        ("assistant.threads.setStatus", "error", {"code": "channel_not_found"}),
    ],
)
def test_a_stream_that_fails_still_ends_in_one_whole_answer(
    slack: Any, live: Live, engine: ModelServer, method: str, kind: str, details: dict[str, Any]
) -> None:
    engine.text, engine.delay_s = LONG, 0.006
    slack.fault(method, kind, times=1, **details)
    channel, ts = asked(slack)

    if method == "chat.stopStream" and kind == "http_500":
        slack.set_stream_life(0.5)  # its end was never heard: Slack lets it die
    try:
        answers = final_within(slack, channel, ts, 25)
    finally:
        slack.set_stream_life(300)
    assert [a["text"].count("Step") for a in answers] == [12]
    assert "evenkeel_feedback" in str(answers[0]["blocks"])


def final_within(slack: Any, channel: str, ts: str, seconds: float) -> list[dict[str, Any]]:
    slack.wait_for(lambda: "evenkeel_feedback" in str(bots(slack, channel, ts)), timeout=seconds)
    return bots(slack, channel, ts)


def test_a_stream_that_dies_is_healed_by_an_update(slack: Any, live: Live, engine: ModelServer) -> None:
    engine.text, engine.delay_s = LONG, 0.008
    slack.set_stream_life(0.2)
    try:
        channel, ts = asked(slack)
        answers = final_within(slack, channel, ts, 20)
    finally:
        slack.set_stream_life(300)
    assert [a["text"].count("Step") for a in answers] == [12]


def test_above_the_starts_that_a_minute_allows_it_is_posted_and_updated(
    slack: Any, live: Live, engine: ModelServer
) -> None:
    pace = live.bot.asking.delivery.client.pace
    for _ in range(20):
        pace.spend("chat.startStream")
    channel, ts = asked(slack)
    (answer,) = final(slack, channel, ts)

    assert answer["text"] == engine.text
    assert len(calls(slack, "chat.postMessage", ts)) == 1 and not calls(slack, "chat.startStream", ts)


@pytest.mark.parametrize(
    ("thing", "name", "after"),
    [
        ("client", "chat_startStream", True),
        ("client", "chat_startStream", False),
        ("exchanges", "message_posted", True),
        ("exchanges", "message_posted", False),
        ("client", "chat_stopStream", True),
        ("client", "chat_update", False),
    ],
)
def test_a_crash_in_a_stream_ends_in_exactly_one_answer(
    slack: Any, engine: ModelServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any,
    thing: str, name: str, after: bool,
) -> None:  # fmt: skip
    engine.text, engine.delay_s = LONG, 0.005
    ledger = Ledger(tmp_path / "own.db")

    def bot() -> Bot:
        client = make_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
        return build_bot(settings, ledger, client, who_am_i(client))

    first = bot()
    with slack.deaf_period():
        channel, ts = asked(slack)
    payload = {"user": "U0MIA", "text": "How do I reset it?", "thread_ts": ts, "files": 0, "direct": True}
    ledger.inbox.accept(event_id=f"Ev{ts}", kind="question", team="T0DEMO", channel=channel, ts=ts, payload=payload)
    with monkeypatch.context() as deadly:
        kill_at(
            deadly, first.asking.delivery.client if thing == "client" else getattr(ledger, thing), name, after=after
        )
        with pytest.raises(Killed):
            first.asking.step()
    later(ledger, monkeypatch)

    second = bot()
    while second.asking.step():
        pass
    second.close()
    first.close()

    assert [m["text"].count("Step") for m in bots(slack, channel, ts)] == [12]
    assert ledger.inbox.depth() == 0 and ledger.verify() == ()
    ledger.close()


def test_half_of_a_link_fence_or_code_is_never_streamed() -> None:
    assert whole_lines("See the [guide](https://", ()) == "See the"
    assert whole_lines("Run `rm -rf x", ()) == ""
    assert whole_lines("Do:\n```\ncode here", ()) == ""
    assert whole_lines("word", ()) == ""
