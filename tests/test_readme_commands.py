"""Every `evenkeel …` line of the README's sh blocks is run, in order, as a newcomer would."""

import csv
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import ConfigurationError, GateSaidNo, UsageError
from tests.eval.conftest import tiny_folder  # noqa: F401
from tests.test_docs import commands_in, readme

pytestmark = pytest.mark.model  # needs no fetched model, but real processes: too slow for `make check`
ROOT = Path(__file__).parents[1]
NEEDS_THE_NETWORK = ("evenkeel suite fetch",)  # tests/acceptance runs it
GATE, USAGE, FAULTY = GateSaidNo.exit_code, UsageError.exit_code, ConfigurationError.exit_code
MAY_ALSO_END_WITH = {"retrain": (GATE,), "promote": (GATE,), "rollback": (USAGE,), "doctor": (FAULTY,)}


@pytest.fixture
def newcomer(tiny_folder: Path, tmp_path: Path) -> Iterator[dict[str, str]]:  # noqa: F811
    """A folder with an export of another system, and a base so small that a retrain takes seconds."""
    with (ROOT / "training" / "demo" / "tickets.csv").open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))[:150]
    with (tmp_path / "tickets.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(
            out, ["ticket_id", "conversation_id", "Description", "Resolution"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows({**row, "Description": row["question"], "Resolution": row["answer"]} for row in rows)
    yield {
        **os.environ, "PYTHONPATH": str(ROOT), "BASE_MODEL": str(tiny_folder), "DATA_DIR": str(tmp_path / "var"), "CACHE_DIR": str(tmp_path / "cache"),
        "SUITE_ITEMS": "8", "TARGET_ITEMS": "8", "TARGET_GENERATIONS": "4", "MAX_NEW_TOKENS": "8", "MAX_TOKENS": "1024", "LORA_RANK": "4",
        "ENGINE_URL": "http://127.0.0.1:8697/v1"}  # fmt: skip


def test_every_command_of_the_readme_does_what_it_says(newcomer: dict[str, str], tmp_path: Path) -> None:
    lines = commands_in(readme())
    assert set(NEEDS_THE_NETWORK) <= set(lines)

    for line in lines:
        if line in NEEDS_THE_NETWORK:
            continue
        words = shlex.split(line)[1:]
        done = subprocess.run([sys.executable, "-m", "evenkeel", *words], cwd=tmp_path, env=newcomer, capture_output=True, text=True, check=False,
                              timeout=300)  # fmt: skip
        assert done.returncode in (0, *MAY_ALSO_END_WITH.get(words[0], ())), (
            f"{line} → {done.returncode}\n{done.stderr[-1500:]}"
        )
        assert "Traceback" not in done.stderr and (done.stdout or done.stderr), line

    assert (tmp_path / "copy.db").is_file() and (tmp_path / "var" / "reports" / "run-1" / "report.html").is_file()
