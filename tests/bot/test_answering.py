"""Questions in the local workspace, answered by the real Bolt app over Socket Mode."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.app import Bot
from bot.run import running_bot
from bot.workspace.running import running_workspace
from storage.errors import Busy
from storage.ledger import Ledger
from storage.records import Exchange
from storage.settings import load_settings
from tests.bot.conftest import ASK, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.serving import free_port

Start = Callable[..., Bot]


@pytest.fixture
def ledger(live: Live) -> Ledger:
    return live.ledger


def bots(slack: Any, channel: str, thread_ts: str) -> list[dict[str, Any]]:
    return [m for m in slack.messages(channel, thread_ts) if m.get("user") == "U0EVENKEEL"]


def final(slack: Any, channel: str, thread_ts: str, count: int = 1) -> list[dict[str, Any]]:
    """The bot's messages in a thread once none is a placeholder or a preview."""

    def ready() -> bool:
        found = bots(slack, channel, thread_ts)
        growing = any(re.search("evenkeel_stop|'markdown'", str(m.get("blocks"))) for m in found)
        return len(found) >= count and not growing

    slack.wait_for(ready, timeout=10)
    return bots(slack, channel, thread_ts)


def exchange(slack: Any, ledger: Ledger, ts: str, *, base: bool = False) -> Exchange:
    """The exchange of this question once it is settled; with `base`, once the shadow has spoken too."""

    def found() -> Exchange | None:
        one = next((e for e in ledger.exchanges.recent() if e.question.ts == ts), None)
        done = one is not None and one.tuned is not None and (one.base is not None or not base)
        return one if done and ledger.inbox.depth() == 0 else None

    settled: Exchange = slack.wait_for(found, timeout=10)
    return settled


def calls(slack: Any, method: str, thread_ts: str) -> list[dict[str, Any]]:
    """The arguments of the bot's calls of this method for one thread."""
    ours = {m["ts"] for m in bots(slack, SUPPORT, thread_ts)}
    args = [entry["args"] for entry in slack.journal if entry["method"] == method]
    return [a for a in args if a.get("thread_ts") == thread_ts or a.get("ts") in ours]


def test_a_mention_is_answered_once_though_it_arrives_in_two_events(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)

    (answer,) = final(slack, SUPPORT, ts)
    asked = exchange(slack, ledger, ts)

    assert answer["text"] == engine.text and answer["thread_ts"] == ts
    assert "base model" in str(answer["blocks"]) and "feedback_buttons" in str(answer["blocks"])
    assert len(engine.calls("tuned")) == 1 and len(calls(slack, "chat.postMessage", ts)) == 1
    assert engine.calls("tuned")[0]["messages"][-1] == {"role": "user", "content": "How do I reset my password?"}
    assert asked.tuned is not None and asked.tuned.status == "ok" and asked.question.language == "en"


def test_the_base_is_asked_the_same_and_never_shown(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)

    asked = exchange(slack, ledger, ts, base=True)

    assert asked.base is not None and asked.base.text == "SECRET BASE ANSWER"
    assert engine.calls("base")[0]["messages"] == engine.calls("tuned")[0]["messages"]
    assert "SECRET" not in str(slack.journal) and "SECRET" not in str(slack.messages(SUPPORT))


@pytest.mark.parametrize("mode", ["hang", "garbage"])
def test_a_failing_base_is_a_reason_and_never_felt(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, mode: str
) -> None:
    engine.base_mode = mode
    start(answer_deadline_s=0.5)
    ts = slack.say("U0MIA", SUPPORT, ASK)

    asked = exchange(slack, ledger, ts, base=True)

    assert asked.base is not None and asked.base.status in ("failed", "timeout") and asked.base.reason
    assert [m["text"] for m in bots(slack, SUPPORT, ts)] == [engine.text]


def test_a_direct_message_is_answered_in_its_thread(slack: Any, engine: ModelServer, start: Start) -> None:
    channel = slack.dm("U0JONAS")
    ts = slack.say("U0JONAS", channel, "How do I reset my password?")

    (answer,) = final(slack, channel, ts)

    assert (answer["text"], answer["thread_ts"]) == (engine.text, ts)


def test_a_follow_up_needs_no_mention_and_knows_the_thread(slack: Any, engine: ModelServer, start: Start) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.say("U0MIA", SUPPORT, "And on a phone?", thread_ts=ts)

    final(slack, SUPPORT, ts, count=2)

    assert [m["content"] for m in engine.calls("tuned")[1]["messages"][1:]] == [
        "How do I reset my password?", engine.text, "And on a phone?"]  # fmt: skip


def test_people_talking_among_themselves_are_left_alone(slack: Any, engine: ModelServer, start: Start) -> None:
    root = slack.say("U0MIA", SUPPORT, "Lunch?")
    slack.say("U0TOM", SUPPORT, "Yes!", thread_ts=root)
    ts = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, ts)
    slack.say("U0TOM", SUPPORT, "<@U0MIA> I can show you", thread_ts=ts)
    last = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, last)

    assert len(bots(slack, SUPPORT, root)) == 0 and len(bots(slack, SUPPORT, ts)) == 1


def test_an_event_that_comes_again_is_answered_once(slack: Any, engine: ModelServer, start: Start) -> None:
    slack.drop_acks(2)
    ts = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, ts)
    second = slack.say("U0JONAS", SUPPORT, ASK)
    final(slack, SUPPORT, second)

    assert len(bots(slack, SUPPORT, ts)) == 1 and len(engine.calls("tuned")) == 2


def test_what_could_not_be_stored_comes_again_and_is_answered(
    slack: Any, ledger: Ledger, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is locked when the question arrives: no ack, and Slack delivers again."""
    accept, refused = ledger.inbox.accept, []

    def locked_at_first(**columns: Any) -> bool:
        if len(refused) < 2:  # app_mention and message
            refused.append(1)
            raise Busy("locked")
        return accept(**columns)

    monkeypatch.setattr(ledger.inbox, "accept", locked_at_first)
    ts = slack.say("U0MIA", SUPPORT, ASK)

    assert len(final(slack, SUPPORT, ts)) == 1 and len(refused) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [("<@U0EVENKEEL>", "Ask me a question"), ("<@U0EVENKEEL> " + "x" * 9000, "at most 8,000")],
)
def test_what_cannot_be_asked_gets_a_sentence_and_no_model(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, text: str, said: str
) -> None:
    ts = slack.say("U0MIA", SUPPORT, text)

    (answer,) = final(slack, SUPPORT, ts)
    asked = exchange(slack, ledger, ts, base=True)

    assert said in answer["text"] and engine.asked == []
    assert asked.base is not None and asked.base.status == "skipped"


@pytest.mark.parametrize("mode", ["garbage", "hang", "down"])
def test_a_failing_model_ends_in_an_honest_sentence(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, mode: str
) -> None:
    engine.mode = mode
    start(answer_deadline_s=0.5, retry_s=0.01)
    ts = slack.say("U0MIA", SUPPORT, ASK)

    (answer,) = final(slack, SUPPORT, ts)
    asked = exchange(slack, ledger, ts)

    assert answer["text"].startswith("Sorry, I could not answer this") and "Traceback" not in answer["text"]
    assert "feedback_buttons" not in str(answer["blocks"])
    assert asked.tuned is not None and asked.tuned.status in ("failed", "timeout")


def test_a_model_that_comes_back_answers_after_all(slack: Any, engine: ModelServer, start: Start) -> None:
    engine.mode = "down"
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: len(engine.asked) >= 2, timeout=10)
    engine.mode = "ok"

    (answer,) = final(slack, SUPPORT, ts)

    assert answer["text"] == engine.text


def test_hostile_output_is_shown_harmless(slack: Any, engine: ModelServer, start: Start) -> None:
    engine.text = (
        "<!channel> <@U0MIA> <https://evil.example/?q=SECRET|docs> **ok** [a](https://evil.example) <|im_end|> \u202e"
    )
    ts = slack.say("U0MIA", SUPPORT, ASK)

    (answer,) = final(slack, SUPPORT, ts)

    assert "<" not in answer["text"] and "\u202e" not in answer["text"] and "*ok*" in answer["text"]
    assert "<!" not in str(answer["blocks"]) and "<@" not in str(answer["blocks"])
    sent = calls(slack, "chat.postMessage", ts)[0]
    assert str(sent["unfurl_links"]).lower() in ("false", "0") and sent["parse"] == "none"


def test_a_long_answer_comes_in_parts_and_every_part_can_be_rated(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    engine.text = "\n\n".join(f"Paragraph {n}. " + "word " * 40 for n in range(40)) + "\n```\ncode"
    ts = slack.say("U0MIA", SUPPORT, ASK)
    asked = exchange(slack, ledger, ts)

    parts = bots(slack, SUPPORT, ts)
    assert len(parts) >= 3 and all(len(p["text"]) <= 2900 for p in parts)
    assert ["feedback_buttons" in str(p["blocks"]) for p in parts] == [False] * (len(parts) - 1) + [True]
    slack.react("U0ASHA", SUPPORT, parts[1]["ts"], "+1")
    slack.wait_for(lambda: len(ledger.ratings.of(asked.exchange_id)) == 1, timeout=5)


def test_a_slow_answer_grows_in_place(slack: Any, engine: ModelServer, start: Start) -> None:
    engine.text, engine.mode = "one two three four five six seven eight nine ten eleven", "slow"
    ts = slack.say("U0MIA", SUPPORT, ASK)

    final(slack, SUPPORT, ts)

    shown = [str(a["text"]) for a in calls(slack, "chat.update", ts)]
    assert len(shown) >= 2 and shown[0].endswith(" …") and shown[-1] == engine.text


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("chat.postMessage", "http_500"),
        ("chat.postMessage", "ratelimited"),
        ("chat.postMessage", "lost_response"),
        ("chat.update", "ratelimited"),
        ("chat.update", "lost_response"),
    ],
)
def test_any_trouble_with_slack_ends_in_one_answer(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, method: str, kind: str
) -> None:
    slack.fault(method, kind, **({"retry_after": 1} if kind == "ratelimited" else {}))
    ts = slack.say("U0MIA", SUPPORT, ASK)
    exchange(slack, ledger, ts)

    assert [m["text"] for m in bots(slack, SUPPORT, ts)] == [engine.text]


def test_a_channel_that_takes_nothing_is_recorded(slack: Any, ledger: Ledger, start: Start) -> None:
    slack.fault("chat.postMessage", "error", code="is_archived")
    ts = slack.say("U0MIA", SUPPORT, ASK)

    asked = exchange(slack, ledger, ts)

    assert asked.tuned is not None and asked.tuned.reason == "Slack does not take the answer: is_archived"


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
def test_a_new_connection_takes_over(slack: Any, engine: ModelServer, start: Start, reason: str) -> None:
    slack.disconnect(reason)
    ts = slack.say("U0MIA", SUPPORT, ASK)

    slack.wait_for(lambda: [m["text"] for m in bots(slack, SUPPORT, ts)] == [engine.text], timeout=15)


def test_logs_hold_no_message_text_and_no_secret(
    slack: Any,
    engine: ModelServer,
    ledger: Ledger,
    live: Live,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.text = "canary-answer"
    ts = slack.say("U0MIA", SUPPORT, "<@U0EVENKEEL> canary-question please")
    exchange(slack, ledger, ts, base=True)
    slack.wait_for(live.quiet)

    printed = "".join(capsys.readouterr()) + caplog.text
    assert "answered" in printed
    assert not re.search("canary|xoxb|xapp|local-workspace-secret", printed)


def test_over_http_a_mention_is_answered_just_the_same(engine: ModelServer, tmp_path: Path) -> None:
    port, ledger = free_port(), Ledger(tmp_path / "http.db")
    with running_workspace(event_url=f"http://127.0.0.1:{port}/slack/events") as slack:
        settings = load_settings(
            _env_file=None, slack_bot_token=slack.bot_token, slack_api_url=slack.api_url, slack_mode="http",
            slack_signing_secret=slack.signing_secret, http_port=port, engine_url=engine.url)  # fmt: skip
        with running_bot(settings, ledger):
            ts = slack.say("U0MIA", SUPPORT, ASK)

            (answer,) = final(slack, SUPPORT, ts)
    ledger.close()

    assert answer["text"] == engine.text
