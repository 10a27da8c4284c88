"""Bad inputs 78 to 93: commands, buttons and forms from those who may not, too often, too late, forged or hostile.

Promise held here: only admins of this workspace change anything, nothing happens twice, everybody gets a sentence, and
no log line holds a traceback or a text.
"""

import itertools
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bot.app import LISTENERS, Bot
from bot.workspace.records import User
from storage.ledger import Ledger
from storage.settings import Settings
from tests.bot.conftest import OPS, SUPPORT, Live
from tests.bot.inputs import SECRET_TEXT, Act, Cases, clean_log
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import final
from tests.bot.test_inputs_events import Stage
from tests.bot.test_people import finished

cases = Cases("C", range(78, 94))
INES, MIA, ASHA, GUEST, STRANGER, GONE = "U0INES", "U0MIA", "U0ASHA", "U0GUEST", "U0STRANGER", "U0GONE"
Json = dict[str, Any]
_digests = (f"{n:064x}" for n in itertools.count(1))


@dataclass
class Office(Stage):
    """The same workspace, with people who look like admins and are none, and what a command or click leaves there."""

    bot: Bot

    def command(self, user: str, text: str, command: str = "/retrain", channel: str = OPS) -> list[str]:
        """Type it; it must be acked. What only this person was told."""
        before = len(self.slack.ephemerals(user))
        assert self.slack.command(user, command, text, channel) is not None
        self.slack.wait_for(lambda: len(self.slack.ephemerals(user)) > before, timeout=20)
        return [m["text"] for m in self.slack.ephemerals(user)[before:]]

    def payload(self, user: str, text: str, **changes: Any) -> Json:
        """A command as Slack would send it."""
        place = {"channel_id": OPS, "channel_name": "ops", "team_id": "T0DEMO", "team_domain": "x"}
        who = {"user_id": user, "user_name": "somebody", "trigger_id": "1.2.3", "api_app_id": "A0EVENKEEL"}
        url = f"{self.slack.url}respond/none"
        return {"command": "/retrain", "text": text, **place, **who, "response_url": url, **changes}

    def press(self, user: str, ts: str, action_id: str, value: Any) -> None:
        """A press that the page would not offer: any action, any value. It must be acked."""
        body = {
            "type": "block_actions",
            "user": {"id": user, "team_id": "T0DEMO"},
            "team": {"id": "T0DEMO"},
            "trigger_id": "1.2.3",
            "actions": [{"action_id": action_id, "block_id": "b", "type": "button", "value": value, "action_ts": ts}],
        }
        if action_id == "evenkeel_rollback":
            view = {"id": "V0", "private_metadata": f"0 {OPS}", "state": {"values": {}}}
            place: Json = {"container": {"type": "view", "view_id": "V0"}, "view": view}
        else:
            container = {"type": "message", "message_ts": ts, "channel_id": OPS}
            place = {"container": container, "channel": {"id": OPS}, "message": {"ts": ts, "blocks": []}}
        assert self.acks({**body, **place}, "interactive")

    def click(self, user: str, ts: str, action_id: str, value: Any) -> list[str]:
        """The same; what only this person was told then."""
        before = len(self.slack.ephemerals(user))
        self.press(user, ts, action_id, value)
        self.settle()
        return [m["text"] for m in self.slack.ephemerals(user)[before:]]

    def settle(self) -> None:
        """Until no listener is at work: they act after their ack. Every thread of theirs must come to the meeting."""
        meeting, listeners = threading.Barrier(LISTENERS), self.bot.bolt.listener_runner.listener_executor
        for there in [listeners.submit(meeting.wait, 20) for _ in range(LISTENERS)]:
            there.result()
        self.quiet()

    @contextmanager
    def members(self, channel: str, *users: str) -> Iterator[None]:
        """Only these are in the channel inside the block."""
        before = self.slack._workspace.world.channels[channel].members
        self.slack.set_members(channel, *users)
        try:
            yield
        finally:
            self.slack.set_members(channel, *before)

    def active(self) -> int:
        return len([run for run in self.ledger.runs.recent(50) if run.state == "requested"])

    def refused(self, user: str, **where: Any) -> None:
        """Every way to start a run says no, and none is there."""
        for text in ("", "now", "epochs=1", "cancel", "force now"):
            (said, *more) = self.command(user, text, **where)
            assert "Only admins" in said and not more
        assert self.active() == 0 and self.slack.view(user) is None


@pytest.fixture(scope="module")
def settings(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    lists = {"admins": (INES, GUEST, STRANGER, GONE), "user_questions_per_minute": 1000}
    return settings.model_copy(update={**lists, "data_dir": tmp_path_factory.mktemp("data")})


@pytest.fixture(scope="module")
def people(slack: Any) -> None:
    """Named as admins in the settings, every one of them for nothing."""
    world = slack._workspace.world
    guests = (
        User(id=GUEST, name="guest", real_name="Guest", is_restricted=True),
        User(id=STRANGER, name="stranger", real_name="Stranger", is_stranger=True, team_id="T0OTHER"),
        User(id=GONE, name="gone", real_name="Gone", deleted=True),
    )
    slack._now(lambda: world.users.update({user.id: user for user in guests}))
    everybody = (*world.channels[OPS].members, GUEST, STRANGER, GONE)
    slack.set_members(OPS, *everybody)


@pytest.fixture
def office(live: Live, engine: ModelServer, settings: Settings, people: None, tmp_path: Path) -> Iterator[Office]:
    office = Office(live.slack, live.ledger, engine, settings, tmp_path, bot=live.bot)
    yield office
    office.settle()
    with live.ledger.connections.write() as db:
        for table in ("audit", "promotions", "reports", "decisions", "run_events", "runs", "adapters"):
            db.execute(f"DELETE FROM {table}")
    while view := live.slack.view(INES):
        live.slack.close(INES, view["id"])


# Who


cases(78, "a guest")(lambda office: office.refused(GUEST))
cases(79, "somebody of another company")(lambda office: office.refused(STRANGER))
cases(80, "a deactivated admin")(lambda office: office.refused(GONE))


@cases(81, "an admin's id in another workspace")
def _(office: Office) -> None:
    for text in ("", "now", "epochs=1"):
        assert office.acks(office.payload(INES, text, team_id="T0OTHER"), "slash_commands")
    office.settle()
    assert office.active() == 0 and office.slack.view(INES) is None


@cases(82, "user_name of an admin, user_id of another")
def _(office: Office) -> None:
    before = len(office.slack.ephemerals(MIA))
    for name in ("ines", INES, "admin"):
        assert office.acks(office.payload(MIA, "now", user_name=name), "slash_commands")
    office.settle()
    said = [m["text"] for m in office.slack.ephemerals(MIA)[before:]]
    assert len(said) == 3 and all("Only admins" in text for text in said) and office.active() == 0


# When


@cases(83, "ten at once")
def _(office: Office) -> None:
    before = len(office.slack.ephemerals(INES))
    with ThreadPoolExecutor(10) as pool:
        acks = list(pool.map(lambda _: office.slack.command(INES, "/retrain", "now", OPS), range(10)))
    office.slack.wait_for(lambda: len(office.slack.ephemerals(INES)) >= before + 10, timeout=10)
    said = [m["text"] for m in office.slack.ephemerals(INES)[before:]]
    assert None not in acks and office.active() == 1
    assert sum("is queued" in text for text in said) == 1


@cases(84, "while one runs")
def _(office: Office) -> None:
    (first,) = office.command(INES, "now")
    (second,) = office.command(INES, "now")
    assert "is queued" in first and "run " in second.lower() and "is queued" not in second
    assert office.active() == 1


@cases(85, "with no new data")
def _(office: Office) -> None:
    assert office.slack.command(INES, "/retrain", "", OPS) is not None
    office.slack.wait_for(lambda: (v := office.slack.view(INES)) and "esson" in json.dumps(v["blocks"]))
    assert office.active() == 0


# What is typed


TYPED = [
    "--force; rm -rf /", "$(id)", "../../", "x" * 8000, "🙂", "lr=\n1", "epochs=-1", "rank=1e9", "lr=NaN", "lr=inf",
    "speed=9", "—force", "lr=“1e-3”", "rank=1.5", "=HYPERLINK()", "'); DROP TABLE runs;--", "<!channel> <@U0MIA>",
    "lr=", "batch=999999999999", "\x00now", "\ud83d", "lr=1e-3 lr=2e-3 nonsense", "now now cancel", "١",
    f"{SECRET_TEXT} {SECRET_TEXT}",
]  # fmt: skip


@cases(86, "hostile words")
def _(office: Office) -> None:
    for text in TYPED:
        (said, *more) = office.command(INES, text)
        assert not more and len(said) < 1500 and "Traceback" not in said and "<!" not in said and "<@" not in said
        for run in office.ledger.runs.recent(5):
            if run.state == "requested":
                assert text in ("\x00now",), text
                assert office.ledger.runs.cancel(run.run_id)


@cases(86, "hostile words for /model")
def _(office: Office) -> None:
    for text in ("rollback $(id)", "rollback -1", "rollback 9999999999999", "promote ../../", "rollback ٣", "x" * 8000):
        (said, *_) = office.command(INES, text, "/model")
        assert "Traceback" not in said and len(said) < 3000
    assert office.ledger.promotions.champion() is None


@cases(87, "in a direct message, and in a Connect channel")
def _(office: Office) -> None:
    direct = office.slack.dm(INES)
    (said,) = office.command(INES, "now", channel=direct)
    assert "is queued" in said
    for run in office.ledger.runs.recent(5):
        office.ledger.runs.cancel(run.run_id)
    with office.members(SUPPORT, STRANGER, INES, "U0EVENKEEL"):
        office.refused(STRANGER, channel=SUPPORT)


@contextmanager
def a_server_nearby() -> Iterator[tuple[str, list[str]]]:
    """(address, what was asked of it): stands for the metadata service of a cloud."""
    asked: list[str] = []

    class Nearby(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Nearby)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/latest/meta-data/", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@cases(88, "a response_url that is expired, or leads elsewhere")
def _(office: Office) -> None:
    with a_server_nearby() as (address, asked), office.members(OPS, MIA):  # the bot has nothing but the response_url
        for url in (address, f"{office.slack.url}respond/expired", "file:///etc/passwd", "", "x", None):
            assert office.acks(office.payload(MIA, "help", response_url=url), "slash_commands")
        office.settle()
        assert asked == []


# Buttons


def card(office: Office) -> tuple[str, str]:
    """(the card's ts, the value of its buttons) of a new run that the gate lets through."""
    digest, runs = next(_digests), office.ledger.runs
    run_id = runs.request(reason="command", requested_by=INES, overrides={}, channel=OPS)
    office.bot.workers.wake("runs")
    office.slack.wait_for(lambda: (run := runs.get(run_id)) and run.message_ts, timeout=20)
    run = runs.claim(owner="worker", lease_s=60)
    assert run is not None and run.message_ts is not None
    finished(office.ledger, office.folder, "PROMOTE", run, digest)
    decided = runs.get(run_id)
    assert decided is not None
    return run.message_ts, f"{decided.decision_id}:{digest}"


@cases(89, "a button, by somebody who is no admin")
def _(office: Office) -> None:
    ts, value = card(office)
    for user in (MIA, ASHA, GUEST, STRANGER, GONE, "U0NOBODY"):
        for name in ("evenkeel_approve", "evenkeel_keep", "evenkeel_try"):
            office.press(user, ts, name, value)
        office.press(user, ts, "evenkeel_cancel_run", "1")
        office.press(user, ts, "evenkeel_rollback", "0")
    office.settle()
    assert office.ledger.promotions.champion() is None and not office.engine.asked
    assert "keep_current" not in {entry["action"] for entry in office.ledger.audits()}


@cases(89, "a button that nobody knows any more")
def _(office: Office) -> None:
    office.click(INES, "1.000001", "evenkeel_of_an_older_version", "1")


@cases(90, "a button twice")
def _(office: Office) -> None:
    ts, value = card(office)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: office.press(INES, ts, "evenkeel_approve", value), range(2)))
    office.slack.wait_for(office.ledger.promotions.champion, timeout=20)
    office.settle()
    assert len(office.ledger.promotions.history()) == 1


@cases(91, "a button of a run that is over")
def _(office: Office) -> None:
    old_ts, old = card(office)
    new_ts, new = card(office)
    office.press(INES, new_ts, "evenkeel_approve", new)
    office.slack.wait_for(office.ledger.promotions.champion, timeout=20)
    office.click(INES, old_ts, "evenkeel_approve", old)
    champion = office.ledger.promotions.champion()
    assert champion is not None and champion.adapter_digest == new.partition(":")[2]
    run_id = office.ledger.runs.request(reason="command", requested_by=INES, overrides={}, channel=OPS)
    office.ledger.runs.cancel(run_id)
    before = len(office.slack.ephemerals(INES))
    office.press(INES, old_ts, "evenkeel_cancel_run", str(run_id))
    office.slack.wait_for(lambda: "over" in str(office.slack.ephemerals(INES)[before:]), timeout=20)


@cases(92, "a forged value")
def _(office: Office) -> None:
    ts, value = card(office)
    decision, _, digest = value.partition(":")
    other = f"{decision}:{next(_digests)}"
    for forged in (
        other,
        f"{int(decision) + 1}:{digest}",
        digest,
        "x",
        "",
        "9" * 400,
        "1:",
        None,
        f"-1:{digest}",
        "\ud83d",
    ):
        for name in ("evenkeel_approve", "evenkeel_keep", "evenkeel_try"):
            office.press(INES, ts, name, forged)
        office.press(INES, ts, "evenkeel_cancel_run", forged)
        office.press(INES, ts, "evenkeel_rollback", forged)
        office.press(ASHA, ts, "evenkeel_correct", forged)
        for name in ("evenkeel_feedback", "evenkeel_person", "evenkeel_stop", "evenkeel_take", "evenkeel_resolve"):
            office.press(MIA, ts, name, forged)
    office.settle()
    assert office.ledger.promotions.champion() is None


# Comments


HOSTILE = '=HYPERLINK("http://evil") \'); DROP TABLE corrections;-- \x1b[31mred\x1b[0m \u202e <!channel> <|im_end|>'


@cases(93, "a comment with a formula, SQL and escapes")
def _(office: Office) -> None:
    ts = office.slack.say(MIA, SUPPORT, f"<@U0EVENKEEL> {SECRET_TEXT}?")
    answer = final(office.slack, SUPPORT, ts)[0]["ts"]
    before = len(office.slack.ephemerals(ASHA))
    office.slack.react(ASHA, SUPPORT, answer, "-1")
    office.slack.wait_for(lambda: len(office.slack.ephemerals(ASHA)) > before, timeout=20)
    note = office.slack.ephemerals(ASHA)[-1]
    office.slack.click(ASHA, SUPPORT, note["ts"], "evenkeel_correct")
    view = office.slack.wait_for(lambda: (v := office.slack.view(ASHA)) and inputs(v) and v, timeout=20)
    block = inputs(view)[0]
    field = {"type": "plain_text_input", "value": f"{HOSTILE} {SECRET_TEXT}"}
    office.slack.submit(ASHA, view["id"], {block["block_id"]: {block["element"]["action_id"]: field}})
    kept = office.slack.wait_for(lambda: newest(office.ledger), timeout=20)
    assert "HYPERLINK" in kept and "DROP TABLE" in kept
    assert not [bad for bad in ("\x1b", "\u202e") if bad in kept]
    assert not [m for m in office.slack.messages(SUPPORT, ts) if "<!channel>" in str(m.get("blocks")) + m["text"]]


def inputs(view: Json) -> list[Json]:
    return [b for b in view["blocks"] if b["type"] == "input" and b["element"]["type"] == "plain_text_input"]


def newest(ledger: Ledger) -> str:
    row = ledger.connections.db.execute("SELECT text FROM corrections ORDER BY correction_id DESC").fetchone()
    return str(row[0]) if row else ""


@cases(93, "forms of odd shapes")
def _(office: Office) -> None:
    for view in (None, 5, {}, {"callback_id": "evenkeel_correction"}, {"callback_id": 5}):
        for state in (None, {}, {"values": 5}, {"values": {"answer": 5}}, {"values": {"answer": {"answer": 5}}}):
            shown = {**view, "state": state, "private_metadata": "1 C0SUPPORT"} if isinstance(view, dict) else view
            body = {"type": "view_submission", "user": {"id": ASHA}, "team": {"id": "T0DEMO"}, "view": shown}
            assert office.acks_frame({"envelope_id": str(uuid.uuid4()), "type": "interactive", "payload": body})


@cases.parametrize()
def test_a_bad_command_or_click_is_acked_and_harmless(office: Office, act: Act) -> None:
    with clean_log():
        act(office)
        office.quiet()


def test_every_number_of_part_c_has_a_case() -> None:
    assert cases.missing() == set()
