"""`evenkeel doctor`: what is wrong here, and what to do about it. Looks only: a ledger is opened as every process opens it, but
none is made.

Knows settings, files and the ledger; asks the engine and Slack over HTTP no more than "are you there".
"""

import http.client
import importlib.util
import json
import platform
import shutil
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from storage.database import wal_is_safe
from storage.digests import short
from storage.errors import EvenkeelError
from storage.ledger import Ledger
from storage.servers import Server, base_server, tuned_server
from storage.settings import Settings
from storage.weights import adapter_path, verify_adapter

FREE_BYTES_WANTED = 3 * 2**30
MOST_BYTES = 2**20  # of a reply that is read
PACKAGES = (
    "slack_bolt",
    "openai",
    "transformers",
    "torch",
    "peft",
    "sqlite_utils",
    "rouge_score",
    "apscheduler",
    "lm_eval",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "warn", "fail"]
    found: str
    next_step: str = ""


def examine(settings: Settings) -> tuple[Check, ...]:
    """All checks, in the order in which a newcomer would fix them."""
    return (
        python(),
        packages(),
        disk(settings),
        *tokens(settings),
        slack(settings),
        calls(settings),
        *ledger(settings),
        *model_servers(settings),
        suite(settings),
        consent(settings),
    )


def python() -> Check:
    journal = (
        "WAL" if wal_is_safe(sqlite3.sqlite_version_info) else "rollback journal: this SQLite's WAL can lose commits"
    )
    return Check(
        what="Python and SQLite",
        state="ok",
        found=f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version} ({journal})",
    )


def packages() -> Check:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return Check(what="packages", state="fail", found=f"missing: {', '.join(missing)}", next_step="make install")
    return Check(what="packages", state="ok", found=f"{len(PACKAGES)} of {len(PACKAGES)}")


def disk(settings: Settings) -> Check:
    folder = next(
        path for path in (settings.data_dir.absolute(), *settings.data_dir.absolute().parents) if path.exists()
    )
    free = shutil.disk_usage(folder).free
    enough = free > FREE_BYTES_WANTED
    return Check(
        what="disk",
        state="ok" if enough else "warn",
        found=f"{free / 2**30:.1f} GB free at {folder}",
        next_step="" if enough else "free some space: bases, checkpoints and reports want 3 GB",
    )


def tokens(settings: Settings) -> Iterator[Check]:
    wanted = [("SLACK_BOT_TOKEN", settings.slack_bot_token, "xoxb-")]
    wanted += [("SLACK_APP_TOKEN", settings.slack_app_token, "xapp-")] if settings.slack_mode == "socket" else []
    for name, secret, prefix in wanted:
        value = secret.get_secret_value()
        good = value.startswith(prefix) and value == value.strip().strip("\"'")
        found = "set" if good else ("empty" if not value else f"does not start with {prefix}, or has quotes or spaces")
        yield Check(
            what=name,
            state="ok" if good else "fail",
            found=found,
            next_step="" if good else f"put the {prefix}… token of your Slack app into .env (make demo needs none)",
        )
    if settings.slack_mode == "http" and not settings.slack_signing_secret.get_secret_value():
        yield Check(
            what="SLACK_SIGNING_SECRET",
            state="fail",
            found="empty",
            next_step="copy it from the app's Basic Information page",
        )
    if not settings.admins:
        yield Check(
            what="ADMINS",
            state="warn",
            found="empty: nobody can retrain from Slack",
            next_step="set user or usergroup ids",
        )


def slack(settings: Settings) -> Check:
    token = settings.slack_bot_token.get_secret_value()
    if not token:
        return Check(what="Slack", state="warn", found="not asked: no token", next_step="see SLACK_BOT_TOKEN above")
    request = urllib.request.Request(
        settings.slack_api_url.rstrip("/") + "/auth.test", method="POST", headers={"Authorization": f"Bearer {token}"}
    )
    reply = _json(request)
    if reply is None:
        return Check(
            what="Slack",
            state="fail",
            found=f"no answer at {settings.slack_api_url}",
            next_step="check SLACK_API_URL and the network",
        )
    if not reply.get("ok"):
        return Check(
            what="Slack",
            state="fail",
            found=f"auth.test says {reply.get('error')}",
            next_step="reinstall the app and copy its token",
        )
    return Check(what="Slack", state="ok", found=f"{reply.get('user')} in {reply.get('team')}")


def calls(settings: Settings) -> Check:
    """Whom a customer reaches who asks for a person."""
    if settings.ops_channel:
        return Check(what="OPS_CHANNEL", state="ok", found=settings.ops_channel)
    found = "empty: who asks for a person in a direct message reaches nobody"
    return Check(what="OPS_CHANNEL", state="warn", found=found, next_step="set a channel id and invite the bot there")


def ledger(settings: Settings) -> Iterator[Check]:
    if not settings.ledger_path.exists():
        yield Check(what="ledger", state="ok", found=f"none yet at {settings.ledger_path}: the first process makes it")
        return
    try:
        found = Ledger(settings.ledger_path)
    except EvenkeelError as error:
        said, _, step = str(error).partition(" Next: ")
        yield Check(what="ledger", state="fail", found=said, next_step=step)
        return
    try:
        faults = found.verify()
        yield Check(
            what="ledger",
            state="fail" if faults else "ok",
            found="; ".join(faults[:3]) or f"{found.path} is sound",
            next_step="evenkeel db verify" if faults else "",
        )
        covered, answered = found.exchanges.shadow_coverage()
        low = answered >= 20 and covered < 0.95 * answered
        yield Check(
            what="shadow coverage",
            state="warn" if low else "ok",
            found=f"{covered} of {answered} answers have the base's beside them",
            next_step="look for reasons in the answers table" if low else "",
        )
        yield champion(settings, found)
    finally:
        found.close()


def champion(settings: Settings, found: Ledger) -> Check:
    serving = found.promotions.champion()
    if serving is None or serving.adapter_digest is None:
        return Check(what="champion", state="ok", found="none: the base serves")
    try:
        verify_adapter(adapter_path(settings.weights_dir, serving.adapter_digest), base=serving.base_digest)
    except EvenkeelError as error:
        return Check(what="champion", state="fail", found=str(error), next_step="evenkeel rollback")
    if serving.confirmed not in ("", "ok"):
        return Check(
            what="champion",
            state="fail",
            found=f"the engine refused v{serving.version}: {serving.confirmed}",
            next_step="evenkeel rollback",
        )
    return Check(
        what="champion",
        state="ok",
        found=f"v{serving.version}, adapter {short(serving.adapter_digest)}, bytes verified",
    )


def model_servers(settings: Settings) -> Iterator[Check]:
    """Our engine, where anybody asks it; of a server of others, whether it has the names that we will ask for."""
    tuned, base = tuned_server(settings), base_server(settings)
    for url in dict.fromkeys(server.url for server in (tuned, base) if server.ours):
        yield engine(url)
    if not base.ours:
        yield serves("server of base", base, base.name)
    if tuned.loads:
        yield serves("server of tuned", tuned, base.name)
        yield loads_adapters(tuned)
    elif not tuned.ours:
        yield serves("server of tuned", tuned, tuned.name)


def engine(url: str) -> Check:
    health = _json(urllib.request.Request(url.removesuffix("/v1") + "/healthz"))
    if health is None:
        return Check(what="engine", state="warn", found=f"no answer at {url}", next_step="evenkeel engine")
    return Check(
        what="engine",
        state="ok",
        found=f"{health.get('status')} on {health.get('device')}, base {short(str(health.get('base_digest')))}",
    )


def serves(what: str, server: Server, name: str) -> Check:
    """Whether a server lists a model of this name."""
    status, listed = _answer(_request(server, "/models"))
    rows = listed.get("data") if isinstance(listed, dict) else None
    names = [str(row.get("id")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if status != 200 or not names:
        said = f"it says {status}" if status else "no answer"
        step = "check the address and its key" if status else "start it, or correct its address in .env"
        return Check(
            what=what, state="fail" if status else "warn", found=f"{said} at {server.url}/models", next_step=step
        )
    if name not in names:
        found = f"{server.url} has no {name}, but {', '.join(names[:5])}"
        return Check(
            what=what, state="fail", found=found, next_step="set BASE_NAME and TUNED_NAME to names that it has"
        )
    return Check(what=what, state="ok", found=f"{name} at {server.url}")


def loads_adapters(server: Server) -> Check:
    """Whether a server offers to load adapters; an empty request tells, and changes nothing."""
    status, _ = _answer(_request(server, "/load_lora_adapter", body=b"{}"))
    if status in (400, 422):
        return Check(what="adapters there", state="ok", found=f"loaded on promotion as {server.name}")
    return Check(
        what="adapters there",
        state="warn" if status is None else "fail",
        found=f"{server.url}/load_lora_adapter says {status}" if status else f"no answer at {server.url}",
        next_step="start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1",
    )


def suite(settings: Settings) -> Check:
    there = settings.suite_dir.is_dir() and any(settings.suite_dir.iterdir())
    return Check(
        what="real benchmarks",
        state="ok" if there else "warn",
        found=str(settings.suite_dir) if there else "not fetched",
        next_step="" if there else "evenkeel suite fetch",
    )


def consent(settings: Settings) -> Check:
    return Check(
        what="LEARN_FROM_SLACK",
        state="ok",
        found="on: rated Slack answers become lessons"
        if settings.learn_from_slack
        else "off: only imported tickets become lessons",
    )


def _request(server: Server, path: str, body: bytes | None = None) -> urllib.request.Request:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {server.key}"} if server.key else {})
    return urllib.request.Request(server.url + path, data=body, headers=headers)


def _json(request: urllib.request.Request) -> dict[str, Any] | None:
    status, value = _answer(request)
    return value if status == 200 and isinstance(value, dict) else None


def _answer(request: urllib.request.Request) -> tuple[int | None, Any]:
    """Status and JSON value; None for a status that never came, and for a body that is no JSON."""
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status, _value(reply.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None
    except (OSError, ValueError, http.client.HTTPException):
        return None, None


def _value(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
