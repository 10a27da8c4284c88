"""README, `.env.example` and the settings say the same; every documented command exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from honcho.environ import parse
from pydantic import SecretStr

from evenkeel import app
from storage.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
GROUPS = {"slack_bot_token": "Slack", "data_dir": "Data", "base_model": "Model", "training_profile": "Training", "suite_items": "Evaluation",
          "retrain_cron": "The clock"}  # fmt: skip


def as_text(default: Any) -> str:
    """A default as it is written in `.env.example`."""
    if default is None or isinstance(default, SecretStr):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, tuple) else str(default)


def readme() -> str:
    return (ROOT / "README.md").read_text()


def env_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value.strip('"') for name, value in pairs}


def test_env_example_names_every_setting_with_its_default_and_no_other() -> None:
    assert env_example() == {name.upper(): as_text(field.default) for name, field in Settings.model_fields.items()}


def test_env_example_as_it_stands_gives_the_defaults() -> None:
    assert load_settings(_env_file=ROOT / ".env.example") == load_settings(_env_file=None)


def test_a_procfile_runner_reads_env_example_as_we_do() -> None:
    read = parse((ROOT / ".env.example").read_text())

    assert read == {name: value for name, value in env_example().items() if value}


def test_every_process_of_the_procfile_goes_on_until_it_is_stopped() -> None:
    named = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())

    assert named == {name: f"evenkeel {name}" for name in ("engine", "bot", "worker")}


def test_the_readmes_table_names_every_setting_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", readme(), re.MULTILINE)

    assert [name for name, _, _ in rows] == [name.upper() for name in Settings.model_fields]
    for name, default, meaning in rows:
        field = Settings.model_fields[name.lower()]
        assert meaning == field.description
        if name != "SYSTEM_PROMPT":
            assert default == (f"`{as_text(field.default)}`" if as_text(field.default) else "empty"), name


def commands_in(text: str) -> list[str]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.startswith("evenkeel ")]


def test_every_evenkeel_command_in_the_readme_exists_with_its_options() -> None:
    group = typer.main.get_command(app)
    found = commands_in(readme())

    assert len(found) >= 8
    for line in found:
        words, command = shlex.split(line)[1:], group
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), f"{line}: no such command"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, line


def test_the_two_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()

    for target in ("demo", "test", "install", "check"):
        assert f"make {target}" in readme() and re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    "page", sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
)
def test_links_and_pictures_of_the_docs_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = [t for t in re.findall(r"\]\(([^)#\s]+)", text) if not t.startswith(("http:", "https:", "mailto:"))]

    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []
