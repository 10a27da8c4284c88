"""Served answers of a hosted base: the promoted model is asked by its own name, and proven before it speaks."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.models import Models
from bot.voices import Voices
from storage.doctor import model_servers
from storage.errors import ConfigurationError
from storage.ledger import Ledger
from storage.servers import base_server, needs_engine, tuned_server
from storage.settings import Settings, load_settings
from storage.weights import keep_adapter
from tests.bot.adapters import known, promote
from tests.training.tuning_server import BASE, TuningServer, tuning_server

QUESTION = ({"role": "user", "content": "How?"},)
Made = Callable[[str], str]


@pytest.fixture
def server() -> Iterator[TuningServer]:
    with tuning_server(taught={"ft:one": {"How?": "As one does."}, "ft:two": {"How?": "As two do."}}) as made:
        yield made


@pytest.fixture
def settings(server: TuningServer, tmp_path: Path) -> Settings:
    return load_settings(
        _env_file=None,
        data_dir=tmp_path / "data",
        base_model="hosted",
        base_url=server.url,
        base_name=BASE,
        base_key="k",
    )


@pytest.fixture
def models(settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Models]:
    monkeypatch.setattr("bot.voices.AWAY_S", 0.0)
    made = Models("", "", max_new_tokens=12, voices=Voices(settings, ledger))
    yield made
    made.close()


@pytest.fixture
def made(settings: Settings, ledger: Ledger) -> Made:
    def make(model: str) -> str:
        digest, _ = keep_adapter(
            settings.weights_dir,
            lambda folder: (folder / "hosted.json").write_text(json.dumps({"model": model})) and None,
            {"base_digest": f"name:{BASE}"},
        )
        known(ledger, digest, f"name:{BASE}")
        return digest

    return make


def word(ledger: Ledger) -> str:
    champion = ledger.promotions.champion()
    assert champion is not None
    return champion.confirmed


def test_a_promoted_model_speaks_under_its_own_name_once_the_canary_has_told_it_from_the_base(
    models: Models, made: Made, ledger: Ledger, server: TuningServer
) -> None:
    models.follow()
    assert models.ask("tuned", QUESTION, deadline_s=5).adapter_digest is None  # nothing promoted: the base speaks

    digest = made("ft:one")
    promote(ledger, digest, f"name:{BASE}")
    models.follow()

    answer = models.ask("tuned", QUESTION, deadline_s=5)
    assert (answer.text, answer.adapter_digest, answer.base_digest) == ("As one does.", digest, f"name:{BASE}")
    assert answer.params["proof"] == "canary" and word(ledger) == "ok"
    assert models.ask("base", QUESTION, deadline_s=5).text.startswith("About How?")
    assert not any("lora" in call for call in server.calls) and server.keys == {"Bearer k"}


def test_a_rollback_and_a_question_to_another_version_ask_the_other_name(
    models: Models, made: Made, ledger: Ledger
) -> None:
    one, two = made("ft:one"), made("ft:two")
    promote(ledger, one, f"name:{BASE}")
    promote(ledger, two, f"name:{BASE}")
    models.follow()
    assert models.ask("tuned", QUESTION, deadline_s=5).adapter_digest == two
    assert models.ask_adapter(one, QUESTION, deadline_s=5).text == "As one does."

    ledger.promotions.rollback(actor="t", reason="t")
    models.follow()
    assert models.ask("tuned", QUESTION, deadline_s=5).text == "As one does."


@pytest.mark.parametrize("model", ["ft:gone", ""])
def test_a_model_that_is_gone_or_unnamed_is_refused_with_the_reason_and_the_base_speaks(
    models: Models, made: Made, ledger: Ledger, model: str
) -> None:
    promote(ledger, made(model), f"name:{BASE}")
    models.follow()

    assert ("does not know it" if model else "names its model") in word(ledger)
    assert models.ask("tuned", QUESTION, deadline_s=5).adapter_digest is None


def test_a_server_of_tuned_without_the_base_has_only_its_word(
    settings: Settings, ledger: Ledger, made: Made, server: TuningServer
) -> None:
    with tuning_server(taught=server.taught, base_there=False) as other:
        elsewhere = settings.model_copy(update={"tuned_url": other.url})
        models = Models("", "", max_new_tokens=12, voices=Voices(elsewhere, ledger))
        promote(ledger, made("ft:one"), f"name:{BASE}")
        models.follow()

        answer = models.ask("tuned", QUESTION, deadline_s=5)
        assert (answer.text, answer.params["proof"]) == ("As one does.", "name")
        assert other.keys == {"Bearer none"}  # the key of the base's server goes nowhere else
        models.close()


def test_the_doctor_asks_the_server_for_the_base_and_no_engine(settings: Settings) -> None:
    checks = list(model_servers(settings))

    assert [(check.what, check.state, check.found) for check in checks] == [
        (what, "ok", f"{BASE} at {settings.base_url}") for what in ("server of base", "server of tuned")
    ]


def test_the_settings_of_a_hosted_base_name_its_server_and_nothing_of_tuned(settings: Settings) -> None:
    assert tuned_server(settings).url == base_server(settings).url and not needs_engine(settings)
    for change, said in (
        ({"base_url": ""}, "name its server in BASE_URL"),
        ({"base_name": "base"}, "the model there in BASE_NAME"),
        ({"tuned_name": "ft:x"}, "TUNED_NAME=ft:x: leave it out"),
    ):
        whole = {"base_model": "hosted", "base_url": settings.base_url, "base_name": BASE} | change
        with pytest.raises(ConfigurationError, match=said):
            load_settings(_env_file=None, **whole)
    for wrong in ("soon", "2027-13-01"):
        with pytest.raises(ConfigurationError, match="BASE_SHUTDOWN"):
            load_settings(_env_file=None, base_shutdown=wrong)
