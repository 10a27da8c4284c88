"""Questions in the local workspace, answered by the real Bolt app over Socket Mode."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from bot.workspace.running import running_workspace

from bot.app import Bot
from bot.run import running_bot
from storage.errors import Busy
from storage.ledger import Ledger
from storage.settings import load_settings
from tests.bot.conftest import SUPPORT
from tests.bot.model_server import ModelServer, free_port

ASK = "<@U0EVENKEEL> How do I reset my password?"
Start = Callable[..., Bot]


def bots(slack: Any, channel: str, thread_ts: str) -> list[dict[str, Any]]:
    return [m for m in slack.messages(channel, thread_ts) if m.get("user") == "U0EVENKEEL"]


def final(slack: Any, channel: str, thread_ts: str, count: int = 1) -> list[dict[str, Any]]:
    """The bot's messages in a thread once none is a placeholder or a preview."""

    def ready() -> bool:
        found = bots(slack, channel, thread_ts)
        return len(found) >= count and not any("Looking into it" in m["text"] or m["text"].endswith("…") for m in found)

    slack.wait_for(ready, timeout=10)
    return bots(slack, channel, thread_ts)


def settled(slack: Any, ledger: Ledger) -> None:
    slack.wait_for(lambda: ledger.inbox.depth() == 0, timeout=10)


def calls(slack: Any, method: str) -> list[dict[str, Any]]:
    return [entry for entry in slack.journal if entry["method"] == method]


def test_a_mention_is_answered_once_though_it_arrives_in_two_events(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    start()
    ts = slack.say("U0MIA", SUPPORT, ASK)

    (answer,) = final(slack, SUPPORT, ts)
    settled(slack, ledger)

    assert answer["text"] == engine.text and answer["thread_ts"] == ts
    assert "base model" in str(answer["blocks"]) and "feedback_buttons" in str(answer["blocks"])
    assert len(engine.calls("tuned")) == 1 and len(calls(slack, "chat.postMessage")) == 1
    assert engine.calls("tuned")[0]["messages"][-1] == {"role": "user", "content": "How do I reset my password?"}
    (exchange,) = ledger.exchanges.recent()
    assert exchange.tuned is not None and exchange.tuned.status == "ok" and exchange.question.language == "en"


def test_the_base_is_asked_the_same_and_never_shown(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    start()
    slack.say("U0MIA", SUPPORT, ASK)

    slack.wait_for(lambda: ledger.exchanges.shadow_coverage() == (1, 1), timeout=10)

    assert engine.calls("base")[0]["messages"] == engine.calls("tuned")[0]["messages"]
    assert ledger.exchanges.recent()[0].base.text == "SECRET BASE ANSWER"
    assert "SECRET" not in str(slack.journal) and "SECRET" not in str(slack.messages(SUPPORT))


@pytest.mark.parametrize("mode", ["hang", "garbage", "wrong_model"])
def test_a_failing_base_is_a_reason_and_never_felt(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, mode: str
) -> None:
    engine.base_mode = mode
    start(answer_deadline_s=0.6)
    ts = slack.say("U0MIA", SUPPORT, ASK)

    (answer,) = final(slack, SUPPORT, ts)
    slack.wait_for(lambda: ledger.exchanges.recent()[0].base is not None, timeout=10)

    assert answer["text"] == engine.text
    assert (
        ledger.exchanges.recent()[0].base.status in ("failed", "timeout") and ledger.exchanges.recent()[0].base.reason
    )


def test_a_direct_message_is_answered_in_its_thread(slack: Any, engine: ModelServer, start: Start) -> None:
    start()
    channel = slack.dm("U0JONAS")
    ts = slack.say("U0JONAS", channel, "How do I reset my password?")

    (answer,) = final(slack, channel, ts)

    assert (answer["text"], answer["thread_ts"]) == (engine.text, ts)


def test_a_follow_up_needs_no_mention_and_knows_the_thread(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    start()
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.say("U0MIA", SUPPORT, "And on a phone?", thread_ts=ts)

    final(slack, SUPPORT, ts, count=2)

    assert [m["content"] for m in engine.calls("tuned")[1]["messages"][1:]] == [
        "How do I reset my password?", engine.text, "And on a phone?"]  # fmt: skip


def test_people_talking_among_themselves_are_left_alone(slack: Any, ledger: Ledger, start: Start) -> None:
    start()
    root = slack.say("U0MIA", SUPPORT, "Lunch?")
    slack.say("U0TOM", SUPPORT, "Yes!", thread_ts=root)
    ts = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, ts)
    slack.say("U0TOM", SUPPORT, "<@U0MIA> I can show you", thread_ts=ts)
    settled(slack, ledger)

    assert len(bots(slack, SUPPORT, root)) == 0 and len(bots(slack, SUPPORT, ts)) == 1


def test_an_event_that_comes_again_is_answered_once(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    start()
    slack.drop_acks(2)
    ts = slack.say("U0MIA", SUPPORT, ASK)
    final(slack, SUPPORT, ts)
    second = slack.say("U0JONAS", SUPPORT, ASK)
    final(slack, SUPPORT, second)
    settled(slack, ledger)

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
    start()
    ts = slack.say("U0MIA", SUPPORT, ASK)

    assert len(final(slack, SUPPORT, ts)) == 1 and len(refused) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<@U0EVENKEEL>", "Ask me a question"),
        ("<@U0EVENKEEL> 🙂", "Ask me a question"),
        ("<@U0EVENKEEL> " + "x" * 9000, "at most 8,000"),
    ],
)
def test_what_cannot_be_asked_gets_a_sentence_and_no_model(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, text: str, said: str
) -> None:
    start()
    ts = slack.say("U0MIA", SUPPORT, text)

    (answer,) = final(slack, SUPPORT, ts)
    settled(slack, ledger)

    assert said in answer["text"] and engine.asked == []
    slack.wait_for(lambda: ledger.exchanges.recent()[0].base is not None, timeout=5)
    assert ledger.exchanges.recent()[0].base.status == "skipped"


@pytest.mark.parametrize("mode", ["garbage", "empty", "wrong_model", "hang", "down"])
def test_a_failing_model_ends_in_an_honest_sentence(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, mode: str
) -> None:
    engine.mode = mode
    bot = start(answer_deadline_s=0.6)
    object.__setattr__(bot.asking, "retry_s", 0.05)
    ts = slack.say("U0MIA", SUPPORT, ASK)

    (answer,) = final(slack, SUPPORT, ts)
    settled(slack, ledger)

    assert answer["text"].startswith("Sorry, I could not answer this") and "Traceback" not in answer["text"]
    assert "feedback_buttons" not in str(answer["blocks"])
    assert ledger.exchanges.recent()[0].tuned.status in ("failed", "timeout")


def test_a_model_that_comes_back_answers_after_all(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    engine.mode = "down"
    bot = start()
    object.__setattr__(bot.asking, "retry_s", 0.2)
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: len(engine.asked) >= 2, timeout=10)
    engine.mode = "ok"

    (answer,) = final(slack, SUPPORT, ts)

    assert answer["text"] == engine.text


def test_hostile_output_is_shown_harmless(slack: Any, engine: ModelServer, start: Start) -> None:
    engine.text = (
        "<!channel> <@U0MIA> <https://evil.example/?q=SECRET|docs> **ok** [a](https://evil.example) <|im_end|> \u202e"
    )
    start()
    ts = slack.say("U0MIA", SUPPORT, ASK)

    (answer,) = final(slack, SUPPORT, ts)

    assert "<" not in answer["text"] and "\u202e" not in answer["text"] and "*ok*" in answer["text"]
    assert "<!" not in str(answer["blocks"]) and "<@" not in str(answer["blocks"])
    sent = calls(slack, "chat.postMessage")[0]["args"]
    assert str(sent["unfurl_links"]).lower() in ("false", "0") and sent["parse"] == "none"


def test_a_long_answer_comes_in_parts_and_every_part_can_be_rated(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    engine.text = "\n\n".join(f"Paragraph {n}. " + "word " * 40 for n in range(40)) + "\n```\ncode"
    start()
    ts = slack.say("U0MIA", SUPPORT, ASK)
    settled(slack, ledger)

    parts = bots(slack, SUPPORT, ts)
    assert len(parts) >= 3 and all(len(p["text"]) <= 2900 for p in parts)
    assert ["feedback_buttons" in str(p["blocks"]) for p in parts] == [False] * (len(parts) - 1) + [True]
    slack.react("U0ASHA", SUPPORT, parts[1]["ts"], "+1")
    slack.wait_for(lambda: len(ledger.ratings.of(1)) == 1, timeout=5)


def test_a_slow_answer_grows_in_place(slack: Any, engine: ModelServer, start: Start) -> None:
    engine.text, engine.mode = "one two three four five six seven eight nine ten eleven twelve", "slow"
    start()
    ts = slack.say("U0MIA", SUPPORT, ASK)

    final(slack, SUPPORT, ts)

    shown = [str(c["args"]["text"]) for c in calls(slack, "chat.update")]
    assert len(shown) >= 2 and shown[0].endswith(" …") and shown[-1] == engine.text


def test_rate_limits_and_lost_responses_make_no_second_message(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start
) -> None:
    start()
    slack.fault("chat.postMessage", "lost_response")
    slack.fault("chat.update", "ratelimited", retry_after=1)
    ts = slack.say("U0MIA", SUPPORT, ASK)
    settled(slack, ledger)

    (answer,) = bots(slack, SUPPORT, ts)
    assert answer["text"] == engine.text


@pytest.mark.parametrize("kind", ["http_500", "ratelimited", "lost_response"])
@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
def test_any_trouble_with_slack_ends_in_one_answer(
    slack: Any, engine: ModelServer, ledger: Ledger, start: Start, method: str, kind: str
) -> None:
    bot = start()
    object.__setattr__(bot.asking, "retry_s", 0.05)
    details = {"retry_after": 1} if kind == "ratelimited" else {}
    slack.fault(method, kind, times=2, **details)
    ts = slack.say("U0MIA", SUPPORT, ASK)
    settled(slack, ledger)

    assert [m["text"] for m in bots(slack, SUPPORT, ts)] == [engine.text]


def test_a_channel_that_takes_nothing_is_recorded(slack: Any, ledger: Ledger, start: Start) -> None:
    slack.fault("chat.postMessage", "error", times=5, code="is_archived")
    start()
    slack.say("U0MIA", SUPPORT, ASK)
    settled(slack, ledger)

    assert ledger.exchanges.recent()[0].tuned.reason == "Slack does not take the answer: is_archived"


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
def test_a_new_connection_takes_over(slack: Any, engine: ModelServer, start: Start, reason: str) -> None:
    start()
    slack.disconnect(reason)
    ts = slack.say("U0MIA", SUPPORT, ASK)

    slack.wait_for(lambda: [m["text"] for m in bots(slack, SUPPORT, ts)] == [engine.text], timeout=15)


def test_logs_hold_no_message_text_and_no_secret(
    slack: Any,
    engine: ModelServer,
    ledger: Ledger,
    start: Start,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine.text = "canary-answer"
    start()
    ts = slack.say("U0MIA", SUPPORT, "<@U0EVENKEEL> canary-question please")
    final(slack, SUPPORT, ts)
    settled(slack, ledger)

    printed = "".join(capsys.readouterr()) + caplog.text
    assert "answered" in printed
    assert not re.search("canary|xoxb|xapp|local-workspace-secret", printed)


def test_over_http_a_mention_is_answered_just_the_same(engine: ModelServer, ledger: Ledger) -> None:
    port = free_port()
    with running_workspace(event_url=f"http://127.0.0.1:{port}/slack/events") as slack:
        settings = load_settings(
            _env_file=None, slack_bot_token=slack.bot_token, slack_api_url=slack.api_url, slack_mode="http",
            slack_signing_secret=slack.signing_secret, http_port=port, engine_url=engine.url)  # fmt: skip
        with running_bot(settings, ledger):
            ts = slack.say("U0MIA", SUPPORT, ASK)

            (answer,) = final(slack, SUPPORT, ts)

    assert answer["text"] == engine.text
