"""A champion that answers a part of the conversations: who speaks where, what people see, what the ledger proves."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.commands import Commands
from bot.home import home
from bot.model_view import ModelView
from storage.ledger import Ledger
from storage.records import Promotion, Sharing
from storage.settings import load_settings
from tests.bot.conftest import ASK, SUPPORT, Live
from tests.bot.facts import NOW
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import exchange, final
from tests.bot.test_commands import decided
from tests.bot.test_voices import BASE_MODEL, QUESTION, Follower, follower  # noqa: F401

A, B = "a" * 64, "c" * 64


def promote(ledger: Ledger, digest: str, *, percent: int = 100) -> None:
    made = decided(ledger, digest=digest)
    ledger.promotions.promote(made, actor="test", reason="", percent=percent)


@pytest.fixture
def shared(live: Live, engine: ModelServer) -> Any:
    """v1 and v2, which answers half of the conversations; the base alone once the test is over."""
    promote(live.ledger, A)
    promote(live.ledger, B, percent=50)
    engine.adapter, engine.adapters = B, {f"adapter-{A[:12]}": A}
    yield live.ledger
    live.ledger.promotions.rollback(actor="test", reason="", to_version=0)


def asked(slack: Any, ledger: Ledger, words: str = ASK, thread: str | None = None) -> tuple[str, str | None, str]:
    """(thread, adapter that spoke, what is under the answer)."""
    ts = slack.say("U0MIA", SUPPORT, words, thread_ts=thread) if thread else slack.say("U0MIA", SUPPORT, words)
    one = exchange(slack, ledger, ts)
    shown = final(slack, SUPPORT, thread or ts)[-1]
    assert one.tuned is not None and one.tuned.status == "ok" and shown["text"] == one.tuned.text
    return ts, one.tuned.adapter_digest, str(shown["blocks"])


def test_each_conversation_has_one_speaker_and_its_footer_and_its_row_say_which(
    slack: Any, engine: ModelServer, shared: Ledger
) -> None:
    sharing, spoke = shared.promotions.sharing(), Counter[str | None]()
    assert sharing is not None and sharing.other == A
    while min(spoke[A], spoke[B]) < 1:
        ts, adapter, under = asked(slack, shared)
        spoke[adapter] += 1
        one = exchange(slack, shared, ts)
        expected = B if sharing.is_champions(one.question.conversation_id) else A
        assert adapter == expected and ("v2" if adapter == B else "v1") in under
        assert asked(slack, shared, "<@U0EVENKEEL> And then?", ts)[1] == adapter

    assert engine.calls(f"adapter-{A[:12]}")[0]["evenkeel"] == {"role": "user"}
    assert shared.verify() == ()


def test_after_a_rollback_everybody_hears_the_one_before(slack: Any, engine: ModelServer, shared: Ledger) -> None:
    shared.promotions.rollback(actor="watch", reason="", to_version=1)
    engine.adapter, engine.adapters = A, {}

    for _ in range(4):
        _, adapter, under = asked(slack, shared)
        assert adapter == A and "v1" in under
    assert len(engine.calls("tuned")) >= 4 and not engine.calls(f"adapter-{A[:12]}")


def test_the_first_champion_shares_with_the_base_which_speaks_to_customers(
    slack: Any, live: Live, engine: ModelServer
) -> None:
    promote(live.ledger, B, percent=1)
    engine.adapter = B
    adapters = [asked(slack, live.ledger)[1:] for _ in range(3)]
    live.ledger.promotions.rollback(actor="test", reason="", to_version=0)

    by_base = [under for adapter, under in adapters if adapter is None]
    roles = [call["evenkeel"]["role"] for call in engine.calls("base")]
    assert by_base and all("base model" in under for under in by_base)
    assert roles.count("user") == len(by_base)


def test_where_the_other_is_refused_the_champion_answers(slack: Any, engine: ModelServer, shared: Ledger) -> None:
    engine.base_mode = "gone"

    while not engine.calls(f"adapter-{A[:12]}"):  # until a conversation falls to it
        assert asked(slack, shared)[1] == B


def test_admins_read_who_shares_until_it_graduates(tmp_path: Path) -> None:
    ledger, settings = Ledger(tmp_path / "own.db"), load_settings(_env_file=None)
    promote(ledger, A, percent=20)
    assert "It has 20 % of the conversations so far, the base model the others." in str(home("admin", ledger, settings))
    ledger.watches.keep("votes", 1, verdict="graduated", said="v1 answers everybody now", seen={})
    assert "the conversations so far" not in str(home("admin", ledger, settings))
    promote(ledger, B, percent=30)

    said = "It has 30 % of the conversations so far, v1 the others."
    assert said in str(home("admin", ledger, settings))
    roles = SimpleNamespace(role_of=lambda user: "admin")
    commands = Commands(settings=settings, ledger=ledger, roles=roles)  # type: ignore[arg-type]
    assert said in commands.model("U0INES", "list")
    assert said in str(ModelView(commands=commands, client=None).view("U0INES", "C"))  # type: ignore[arg-type]
    ledger.close()


def test_it_answers_about_its_share_and_a_conversation_always_falls_to_the_same() -> None:
    made = Promotion(promotion_id=7, kind="promote", adapter_digest=B, base_digest="b", decision_id=1, actor="gate", reason="",
                     at=NOW, version=2, percent=10)  # fmt: skip
    sharing = Sharing(champion=made, before=None)
    lots = [sharing.is_champions(f"T:C:{n}") for n in range(2_000)]

    assert 150 < sum(lots) < 250
    assert lots == [sharing.is_champions(f"T:C:{n}") for n in range(2_000)]


def test_who_speaks_is_known_without_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "own.db")
    promote(ledger, A)
    promote(ledger, B, percent=50)
    monkeypatch.setattr(ledger.connections, "write", lambda: pytest.fail("a write on the way of a question"))

    assert ledger.promotions.sharing() == ledger.promotions.sharing() is not None
    ledger.close()


def test_at_a_server_of_others_both_are_proven_before_a_customer_asks(follower: Follower) -> None:  # noqa: F811
    first = follower.promoted(1)
    second = follower.made(2)
    made = decided(follower.ledger, digest=second)
    follower.ledger.promotions.promote(made, actor="test", reason="", percent=50)
    follower.models.follow()
    for seed in (3, 4):  # others that somebody tries do not push it out
        follower.models.ask_adapter(follower.made(seed), QUESTION, deadline_s=5)
    follower.another().models.follow()
    calls = len(follower.server.asked)

    sharing = follower.ledger.promotions.sharing()
    assert sharing is not None
    other = follower.models.ask_other(sharing.other, QUESTION, deadline_s=5)

    assert (other.role, other.adapter_digest, other.params["proof"]) == ("tuned", first, "canary")
    assert follower.ask().adapter_digest == second
    assert "priority" not in follower.server.questions(f"tuned-{first[:12]}")[-1]
    assert len(follower.server.asked) == calls + 2  # two answers, no canary
    assert f"tuned-{first[:12]}" in follower.server.loaded


def test_at_a_server_of_others_the_base_speaks_beside_the_first_champion(follower: Follower) -> None:  # noqa: F811
    made = decided(follower.ledger, digest=follower.made(1))
    follower.ledger.promotions.promote(made, actor="test", reason="", percent=50)
    follower.models.follow()
    sharing = follower.ledger.promotions.sharing()
    assert sharing is not None and sharing.before is None

    other = follower.models.ask_other(sharing.other, QUESTION, deadline_s=5)

    assert (other.role, other.adapter_digest, other.base_digest) == ("tuned", None, f"name:{BASE_MODEL}")
    assert "priority" not in follower.server.questions(BASE_MODEL)[-1]
