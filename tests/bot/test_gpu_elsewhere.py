"""The whole bot, its command line and its doctor, where both models are at a server like vLLM."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import evenkeel
from bot.answer_view import speaker_of
from bot.app import build_bot
from bot.run import running_bot
from bot.slack import make_client, who_am_i
from bot.terminal import ask_once
from storage.doctor import model_servers
from storage.errors import ConfigurationError, EvenkeelError
from storage.ledger import Ledger
from storage.outlook import look_ahead
from storage.records import Answer
from storage.servers import needs_engine
from storage.settings import Settings, load_settings
from tests.bot.adapters import made, promote
from tests.bot.conftest import ASK, SUPPORT
from tests.bot.test_approval import TRY_ACTION, drain, tickets, told, waiting
from tests.bot.vllm_server import BASE_MODEL, VllmServer, vllm_server
from tests.serving import free_port
from tests.storage.test_ledger import question
from training import model_commands


@pytest.fixture
def vllm() -> Iterator[VllmServer]:
    with vllm_server(key="secret-key") as server:
        yield server


@pytest.fixture
def afar(settings: Settings, vllm: VllmServer, tmp_path: Path) -> Settings:
    """The bot's settings, with both models there."""
    there = {"engine_url": vllm.url, "engine_key": vllm.key, "base_name": BASE_MODEL, "tuned_name": "tuned-{adapter}"}
    kept = settings.model_dump(exclude={"admins", "agents"})
    return load_settings(
        _env_file=None, **{**kept, **there, "data_dir": tmp_path / "data", "admins": "U0INES", "agents": "S0AGENTS"}
    )


def test_a_promotion_goes_live_in_slack_and_its_shadow_yields(
    slack: Any, afar: Settings, ledger: Ledger, vllm: VllmServer
) -> None:
    digest = made(ledger, afar.weights_dir, 1)
    promote(ledger, digest)

    with running_bot(afar, ledger):
        ts = slack.say("U0MIA", SUPPORT, ASK)
        slack.wait_for(lambda: any(e.base for e in ledger.exchanges.recent()), timeout=15)

    (exchange,) = ledger.exchanges.recent()
    (shown,) = [m for m in slack.messages(SUPPORT, ts) if m.get("user") == "U0EVENKEEL"]
    assert exchange.tuned is not None and exchange.base is not None
    assert (exchange.tuned.adapter_digest, exchange.tuned.params["proof"]) == (digest, "canary")
    assert (exchange.base.adapter_digest, exchange.base.params["proof"]) == (None, "name")
    assert shown["text"] == exchange.tuned.text and "v1" in str(shown["blocks"])
    assert vllm.questions(BASE_MODEL)[-1]["priority"] > 0
    assert "priority" not in vllm.questions(f"tuned-{digest[:12]}")[-1]
    assert ledger.verify() == ()


def test_a_server_that_comes_up_after_the_question_answers_it(
    slack: Any, afar: Settings, ledger: Ledger, vllm: VllmServer
) -> None:
    promote(ledger, made(ledger, afar.weights_dir, 1))
    vllm.status = 503
    with running_bot(afar, ledger) as bot:
        object.__setattr__(bot.asking, "retry_s", 0.5)
        ts = slack.say("U0MIA", SUPPORT, ASK)
        slack.wait_for(lambda: any("load_lora" in path for path, _ in vllm.calls), timeout=15)
        vllm.status = 200
        slack.wait_for(lambda: ledger.exchanges.recent() and ledger.inbox.depth() == 0, timeout=20)

    (shown,) = [m for m in slack.messages(SUPPORT, ts) if m.get("user") == "U0EVENKEEL"]
    assert " says " in shown["text"]


def test_ten_questions_reach_a_candidate_that_is_loaded_for_them(
    slack: Any, afar: Settings, ledger: Ledger, vllm: VllmServer
) -> None:
    client = make_client(afar.slack_bot_token.get_secret_value(), afar.slack_api_url)
    bot = build_bot(afar, ledger, client, who_am_i(client))
    candidate = made(ledger, afar.weights_dir, 7)
    tickets(ledger, 3)
    run = waiting(ledger, candidate)
    bot.watch.step()
    before, decision = len(slack.calls("chat.postMessage")), ledger.runs.get(run.run_id)
    assert decision is not None

    bot.approval.press("U0INES", TRY_ACTION, "C0OPS", decision.message_ts or "", f"{run.decision_id}:{candidate}")
    drain(bot)
    bot.close()

    _, *pairs = told(slack, before)
    assert len(pairs) == 3 and all(f"*Candidate*\\n{candidate[:12]} says" in pair for pair in pairs)
    assert all("*Base model, serves now*\\nbase says" in pair for pair in pairs)


def test_one_question_from_the_terminal_proves_its_adapter_itself(afar: Settings, ledger: Ledger) -> None:
    digest = made(ledger, afar.weights_dir, 1)
    promote(ledger, digest)

    exchange = ask_once("How?", both=True, settings=afar, ledger=ledger)

    assert exchange.tuned is not None and exchange.tuned.adapter_digest == digest
    assert exchange.base is not None and exchange.base.status == "ok"
    champion = ledger.promotions.champion()
    assert champion is not None and champion.confirmed == "ok"


def test_weights_that_only_have_a_name_are_shown_by_it_and_compared_with_no_digest(ledger: Ledger) -> None:
    hosted = Answer(role="tuned", status="ok", text="So.", base_digest="name:acme", adapter_digest="name:ft:acme-1")
    ledger.exchanges.record(ledger.exchanges.open(question()), hosted)

    assert speaker_of(hosted, None) == "ft:acme-1"
    assert look_ahead(ledger.connections).spoken_base == ""


# The command line


@pytest.fixture
def environment(afar: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("engine_url", "base_name", "tuned_name", "data_dir"):
        monkeypatch.setenv(name.upper(), str(getattr(afar, name)))
    monkeypatch.setenv("ENGINE_KEY", afar.engine_key.get_secret_value())


@pytest.mark.usefixtures("environment")
def test_the_engine_refuses_to_start_where_nobody_would_ask_it(vllm: VllmServer) -> None:
    with pytest.raises(
        ConfigurationError,
        match=f"nobody asks an engine here: tuned is tuned-.adapter. at {vllm.url}.*only bot and worker",
    ):
        evenkeel.engine()


@pytest.mark.usefixtures("environment")
def test_a_question_on_the_command_line_starts_no_engine_and_names_the_server(vllm: VllmServer) -> None:
    done = CliRunner().invoke(evenkeel.app, ["ask", "How?", "--json"])

    assert done.exit_code == 0 and json.loads(done.stdout)["tuned"]["base_digest"] == f"name:{BASE_MODEL}"
    with evenkeel.an_engine(load_settings(_env_file=None)) as via:
        assert via == f"the model server at {vllm.url}"


@pytest.mark.usefixtures("environment")
def test_a_promotion_that_the_bot_refused_is_an_error_in_its_words(
    afar: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(ledger, made(ledger, afar.weights_dir, 1))
    monkeypatch.setattr(
        model_commands, "await_engine", lambda ledger, promotion: _confirmed(ledger, "the base answers")
    )

    with pytest.raises(EvenkeelError, match="the bot refused v0: the base answers"):
        model_commands.rollback(to=0)


def _confirmed(ledger: Ledger, words: str) -> Any:
    champion = ledger.promotions.champion()
    assert champion is not None
    ledger.promotions.confirm(champion.promotion_id, words)
    return ledger.promotions.champion()


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, True),
        ({"tuned_url": "http://other:1/v1"}, True),
        ({"tuned_url": "http://other:1/v1", "base_url": "http://other:1/v1"}, False),
        ({"base_url": "http://other:1/v1", "base_name": "acme"}, True),
        ({"tuned_name": "tuned-{adapter}", "base_name": "acme"}, False),
    ],
)
def test_our_engine_is_needed_where_somebody_asks_it(changes: dict[str, str], needed: bool) -> None:
    assert needs_engine(load_settings(_env_file=None, **changes)) is needed


# The doctor


def found(settings: Settings) -> dict[str, tuple[str, str]]:
    return {check.what: (check.state, check.found) for check in model_servers(settings)}


def test_the_doctor_finds_base_and_the_way_to_load_adapters(afar: Settings, vllm: VllmServer) -> None:
    assert found(afar) == {
        "server of base": ("ok", f"{BASE_MODEL} at {vllm.url}"),
        "server of tuned": ("ok", f"{BASE_MODEL} at {vllm.url}"),
        "adapters there": ("ok", "loaded on promotion as tuned-{adapter}"),
    }
    assert vllm.loaded == {}


@pytest.mark.parametrize(
    ("change", "what", "state", "words"),
    [
        ({"runtime_loading": False}, "adapters there", "fail", "load_lora_adapter says 404"),
        ({"key": "another"}, "server of base", "fail", "it says 401"),
        ({"has_base": False, "extra": ("acme/other",)}, "server of base", "fail", "has no acme/base-1, but acme/other"),
        ({"status": 503}, "server of base", "fail", "it says 503"),
    ],
)
def test_the_doctor_says_what_a_server_lacks(
    afar: Settings, vllm: VllmServer, change: dict[str, Any], what: str, state: str, words: str
) -> None:
    vllm.__dict__.update(change)

    assert found(afar)[what][0] == state and words in found(afar)[what][1]


def test_the_doctor_warns_of_a_server_that_is_not_there(afar: Settings) -> None:
    nowhere = afar.model_copy(update={"engine_url": f"http://127.0.0.1:{free_port()}/v1"})

    assert {state for state, _ in found(nowhere).values()} == {"warn"}
    began = time.monotonic()
    assert found(load_settings(_env_file=None, engine_url=nowhere.engine_url))["engine"][0] == "warn"
    assert time.monotonic() - began < 5
