"""The doctor's advice fits what is wrong."""

from pathlib import Path

from storage.doctor import Check, examine
from storage.ledger import Ledger
from storage.settings import Settings, load_settings

NOBODY = "http://127.0.0.1:9"  # where nothing listens


def settings(tmp_path: Path) -> Settings:
    return load_settings(
        _env_file=None, data_dir=tmp_path / "data", engine_url=f"{NOBODY}/v1", slack_api_url=f"{NOBODY}/api/"
    )


def found(settings: Settings, what: str) -> Check:
    return next(check for check in examine(settings) if check.what == what)


def test_looking_makes_no_ledger(tmp_path: Path) -> None:
    here = settings(tmp_path)

    assert found(here, "ledger").state == "ok"
    assert not here.data_dir.exists()


def test_a_ledger_of_a_newer_version_wants_an_update_not_an_older_copy(tmp_path: Path) -> None:
    here = settings(tmp_path)
    ledger = Ledger(here.ledger_path)
    with ledger.connections.write() as db:
        db.execute(
            "UPDATE _sqlite_migrations SET name='m999_later' WHERE name=(SELECT max(name) FROM _sqlite_migrations)"
        )
    ledger.close()

    check = found(here, "ledger")

    assert check.state == "fail" and "newer Evenkeel" in check.found
    assert check.next_step == "update Evenkeel."


def test_nobody_to_call_is_said(tmp_path: Path) -> None:
    check = found(settings(tmp_path), "OPS_CHANNEL")

    assert check.state == "warn" and "reaches nobody" in check.found
