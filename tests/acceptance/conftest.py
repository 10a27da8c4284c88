"""The stage of the acceptance tests: local Slack in this process; engine, bot and worker as real processes."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bot.workspace.running import running_workspace
from eval.suite_fetch import fetch_suite
from storage.ledger import Ledger
from storage.processes import tail
from storage.records import Exchange, Run
from storage.settings import load_settings

ROOT = Path(__file__).parents[2]
TICKETS = ROOT / "training" / "demo" / "tickets.csv"
SMALL = {
    "SUITE_ITEMS": "48", "MARGIN_POINTS": "12", "TARGET_ITEMS": "32", "TARGET_GENERATIONS": "8", "GENERAL_TASKS": "arc_easy,piqa",
    "MAX_NEW_TOKENS": "48", "EPOCHS": "1.5", "ANSWER_DEADLINE_S": "240",
}  # fmt: skip
CATEGORIES = 12  # topics of the demo company that the small profile keeps


@dataclass(slots=True)
class Stage:
    """Three processes under test, the workspace that they talk to, and the ledger that they share."""

    slack: Any
    environment: dict[str, str]
    folder: Path
    ledger: Ledger
    base: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    answered_by: dict[str, str] = field(default_factory=dict)

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "evenkeel", name], cwd=ROOT, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)  # fmt: skip

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        process = self.processes.pop(name)
        process.send_signal(how)
        return process.wait(timeout=40)

    def evenkeel(self, *words: str, exit_code: int = 0) -> str:
        """Run a command as a person would; returns its stdout."""
        done = subprocess.run([sys.executable, "-m", "evenkeel", *words], cwd=ROOT, env={**os.environ, **self.environment},
                              capture_output=True, text=True, check=False, timeout=600)  # fmt: skip
        assert done.returncode == exit_code, (
            f"{words} → {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
        assert "Traceback" not in done.stderr
        return done.stdout

    def until(self, what: str, found: Callable[[], Any], seconds: float) -> Any:
        """Wait for something to be truthy; on the way out say what the processes said."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = found()
            if value:
                return value
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} died:\n{tail(self.folder / f'{name}.log', 30)}"
            time.sleep(0.25)
        logs = "\n".join(f"--- {path.name}\n{tail(path, 15)}" for path in sorted(self.folder.glob("*.log")))
        pytest.fail(f"{what} did not happen within {seconds:.0f} s\n{logs}")

    def health(self) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(
                self.environment["ENGINE_URL"].removesuffix("/v1") + "/healthz", timeout=2
            ) as reply:
                return dict(json.load(reply))
        except OSError:
            return None

    def exchange(self, question_ts: str) -> Exchange | None:
        return next((e for e in self.ledger.exchanges.recent(50) if e.question.ts == question_ts), None)

    def answered(self, question_ts: str, *, seconds: float = 240) -> Exchange:
        """The exchange of a question once both models have spoken."""
        both = lambda: (e := self.exchange(question_ts)) and e.tuned and e.base and e  # noqa: E731
        exchange: Exchange = self.until("both answers", both, seconds)
        return exchange

    def replies(self, channel: str, thread_ts: str) -> list[dict[str, Any]]:
        """The bot's messages in a thread."""
        return [m for m in self.slack.messages(channel, thread_ts) if m.get("bot_id") and m["ts"] != thread_ts]

    def ended(self, run_id: int, *, seconds: float = 1200) -> Run:
        done = lambda: (r := self.ledger.runs.get(run_id)) and r.finished_at and r  # noqa: E731
        run: Run = self.until(f"the end of run {run_id}", done, seconds)
        return run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_tickets(target: Path) -> Path:
    """The demo's tickets of half of its topics: a real file, small enough for two cores."""
    with TICKETS.open(newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    kept = sorted({row["category"] for row in rows})[:CATEGORIES]
    with target.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(row for row in rows if row["category"] in kept)
    return target


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Stage]:
    folder, settings = tmp_path_factory.mktemp("stage"), load_settings(_env_file=None)
    fetch_suite(settings, print)
    with running_workspace() as slack:
        environment = {
            "DATA_DIR": str(folder / "data"), "CACHE_DIR": str(settings.cache_dir.absolute()), "SLACK_API_URL": slack.api_url,
            "SLACK_BOT_TOKEN": slack.bot_token, "SLACK_APP_TOKEN": slack.app_token, "ADMINS": "S0ADMINS", "AGENTS": "S0AGENTS",
            "OPS_CHANNEL": "C0OPS", "LEARN_FROM_SLACK": "true", "RETRAIN_CRON": "", "RETRAIN_AFTER_LESSONS": "0",
            "ENGINE_URL": f"http://127.0.0.1:{free_port()}/v1", **SMALL}  # fmt: skip
        ledger = Ledger(folder / "data" / "evenkeel.db")
        stage = Stage(slack=slack, environment=environment, folder=folder, ledger=ledger, base=base_folder)
        try:
            for name in ("engine", "bot", "worker"):
                stage.start(name)
            stage.until("the engine is ready", lambda: (h := stage.health()) and h["status"] == "ok", 120)
            yield stage
        finally:
            for name in list(stage.processes):
                stage.stop(name)
            ledger.close()
