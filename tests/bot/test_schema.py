"""What the bot sends, held against what Slack publishes: the manifest's limits, slack_sdk's models, the fields' limits.

Nothing here is written by hand: one module-long scenario drives every feature, and the workspace's journal of Web API
calls is what is checked.
"""

import copy
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from slack_sdk import WebClient
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

import bot
from storage.settings import Settings
from tests.bot.conftest import ASK, OPS, SUPPORT, Live
from tests.bot.model_server import ModelServer
from tests.bot.test_answering import bots, final
from tests.bot.test_people import finished

ROOM = Path(bot.__file__).parent
Json = dict[str, Any]
NEWER_THAN_THE_SDK = {"data_visualization"}  # block types that slack_sdk 3.47 has no model of
LONGEST_TEXT = {"chat.update": 4_000, "chat.postMessage": 4_000, "chat.postEphemeral": 4_000}
LONGEST_MARKDOWN = 12_000
ANSWER = "# Steps\n\n1. Open **Settings**\n2. Choose `Reset`\n\n| key | does |\n|---|---|\n| F5 | reload |\n\n```sh\nreset --now\n```"


@pytest.fixture(scope="module")
def settings(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    rooms = {"support_group": "S0AGENTS", "ops_channel": OPS, "user_questions_per_minute": 50}
    return settings.model_copy(update={**rooms, "data_dir": tmp_path_factory.mktemp("data")})


@pytest.fixture(scope="module")
def journal(process: Live, model_process: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """Every Web API call of a bot that had everything to do that it can do."""
    process.set()
    slack = process.slack
    ask(slack, model_process)
    rate_and_correct(slack)
    teach(slack)
    call_a_person(slack)
    fail(slack, model_process, process)
    ask_directly(slack, model_process)
    look_at_homes(slack)
    train(process, tmp_path_factory.mktemp("report"))
    review(process)
    forget(slack)
    slack.wait_for(process.quiet, timeout=15)
    return list(slack.journal)


def ask(slack: Any, engine: ModelServer) -> None:
    """A growing answer with a table and code; a long one in parts; nothing; too much; one that waits its turn."""
    for text, delay_s in ((ANSWER, 0.03), ("\n\n".join("word " * 60 for _ in range(30)), 0.0)):
        engine.text, engine.delay_s = text, delay_s
        final(slack, SUPPORT, slack.say("U0MIA", SUPPORT, ASK))
    engine.text = "Open Settings."
    for words in ("<@U0EVENKEEL>", "<@U0EVENKEEL> " + "x" * 9_000):
        final(slack, SUPPORT, slack.say("U0MIA", SUPPORT, words))
    engine.mode = "slow"
    last = [slack.say(user, SUPPORT, ASK) for user in ("U0MIA", "U0JONAS", "U0TOM", "U0ASHA")][-1]
    final(slack, SUPPORT, last)
    engine.mode = "ok"


def rate_and_correct(slack: Any) -> None:
    """Both buttons, a 👎 of an agent, the form behind it."""
    ts = slack.say("U0MIA", SUPPORT, ASK)
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    slack.click("U0MIA", SUPPORT, answer, "evenkeel_feedback", "up")
    before = len(slack.ephemerals("U0ASHA"))
    slack.react("U0ASHA", SUPPORT, answer, "-1")
    slack.wait_for(lambda: len(slack.ephemerals("U0ASHA")) > before, timeout=5)
    note = slack.ephemerals("U0ASHA")[-1]["ts"]
    slack.click("U0ASHA", SUPPORT, note, "evenkeel_correct")
    view = shown(slack, "U0ASHA", "input")
    slack.click_in_view("U0ASHA", view["id"], "evenkeel_start_from_base")
    slack.wait_for(lambda: "SECRET BASE ANSWER" in str(slack.view("U0ASHA")), timeout=5)
    view = shown(slack, "U0ASHA", "input")
    field = next(b for b in view["blocks"] if b["type"] == "input" and b["element"]["type"] == "plain_text_input")
    typed = {"type": "plain_text_input", "value": "Press F5."}
    slack.submit("U0ASHA", view["id"], {field["block_id"]: {field["element"]["action_id"]: typed}})


def teach(slack: Any) -> None:
    """A person's reply to a person, kept as a lesson; the thank-you has a way back."""
    root = slack.say("U0JONAS", SUPPORT, "Where do I find my invoices?")
    reply = slack.say("U0TOM", SUPPORT, "Open Billing.", thread_ts=root)
    slack.shortcut("U0ASHA", SUPPORT, reply, "evenkeel_teach")
    slack.wait_for(lambda: "evenkeel_taught" in str(slack.view("U0ASHA")), timeout=5)
    slack.submit("U0ASHA", slack.view("U0ASHA")["id"], {})
    slack.wait_for(lambda: "evenkeel_take_back" in str(slack.ephemerals("U0ASHA")), timeout=5)


def call_a_person(slack: Any) -> None:
    ts = slack.say("U0MIA", SUPPORT, ASK)
    answer = final(slack, SUPPORT, ts)[0]["ts"]
    slack.click("U0MIA", SUPPORT, answer, "evenkeel_person")
    slack.wait_for(lambda: len(bots(slack, SUPPORT, ts)) == 2, timeout=5)
    call = bots(slack, SUPPORT, ts)[1]["ts"]
    for action in ("evenkeel_take", "evenkeel_resolve"):
        slack.wait_for(lambda action=action: action in str(bots(slack, SUPPORT, ts)[1]["blocks"]), timeout=5)
        slack.click("U0ASHA", SUPPORT, call, action)
    slack.wait_for(lambda: "resolved" in bots(slack, SUPPORT, ts)[1]["text"], timeout=5)


def fail(slack: Any, engine: ModelServer, process: Live) -> None:
    """A model that breaks, and one that is stopped."""
    engine.mode = "garbage"
    final(slack, SUPPORT, slack.say("U0MIA", SUPPORT, ASK))
    engine.mode = "hang"
    ts = slack.say("U0MIA", SUPPORT, ASK)
    slack.wait_for(lambda: "evenkeel_stop" in str(bots(slack, SUPPORT, ts)), timeout=5)
    slack.click("U0MIA", SUPPORT, bots(slack, SUPPORT, ts)[0]["ts"], "evenkeel_stop")
    final(slack, SUPPORT, ts)
    engine.mode = "ok"


def ask_directly(slack: Any, engine: ModelServer) -> None:
    """A native stream in a direct message."""
    engine.text, engine.delay_s = ANSWER, 0.02
    channel = slack.dm("U0JONAS")
    final(slack, channel, slack.say("U0JONAS", channel, "How do I reset it?"))
    engine.delay_s = 0.0


def look_at_homes(slack: Any) -> None:
    for user in ("U0MIA", "U0ASHA", "U0INES"):
        slack.open_home(user)
        slack.wait_for(lambda user=user: slack.home(user), timeout=5)


def review(process: Live) -> None:
    """The review queue: a card, and the end of a session."""
    slack, ledger = process.slack, process.ledger
    slack.wait_for(process.quiet, timeout=15)
    champion = ledger.promotions.champion()
    assert champion is not None
    with ledger.connections.write() as db:
        db.execute(
            "UPDATE answers SET adapter_digest=?, text='Wren.' WHERE role='tuned' AND status='ok'",
            (champion.adapter_digest,),
        )
    slack.command("U0TOM", "/review", "", SUPPORT)
    while "evenkeel_pick_both" in str((view := shown(slack, "U0TOM", "evenkeel_"))["blocks"]):
        slack.click_in_view("U0TOM", view["id"], "evenkeel_pick_both")
        slack.wait_for(lambda view=view: slack.view("U0TOM")["hash"] != view["hash"], timeout=5)
    shown(slack, "U0TOM", "Thank you")


def forget(slack: Any) -> None:
    """A person takes their data away, from the App Home."""
    slack.open_home("U0JONAS")
    home = slack.wait_for(lambda: slack.home("U0JONAS"), timeout=5)
    slack.click_in_view("U0JONAS", home["id"], "evenkeel_forget_me")
    slack.submit("U0JONAS", slack.wait_for(lambda: slack.view("U0JONAS"), timeout=5)["id"], {})


def train(process: Live, folder: Path) -> None:
    """The form, a dry run's words, a live run, a card that is refused, one that is approved; then the versions."""
    slack, ledger = process.slack, process.ledger
    slack.command("U0INES", "/retrain", "", OPS)
    view = shown(slack, "U0INES", "esson")
    slack.submit("U0INES", view["id"], {})
    for n, verdict in enumerate(("REFUSE", "PROMOTE")):
        if n:
            slack.command("U0INES", "/retrain", "now", OPS)
        soon(process, lambda: (run := ledger.runs.active()) and run.message_ts)
        run = ledger.runs.claim(owner="worker", lease_s=60)
        assert run is not None
        stage = {"stage": "training", "stage_no": 2, "stages": 4, "done": 3, "total": 10, "loss": 1.2, "eta_s": 9}
        ledger.runs.report_progress(run, stage, lease_s=60)
        soon(process, lambda: "Stage 2" in card(slack, process))
        finished(ledger, folder, verdict, run, digest=f"{n}" * 64)
        soon(process, lambda verdict=verdict: verdict in card(slack, process))
    ts = ledger.runs.recent(1)[0].message_ts
    slack.click("U0INES", OPS, ts, "evenkeel_try")
    direct = slack.dm("U0INES")
    slack.wait_for(lambda: any(process.slack.messages(direct)), timeout=5)
    slack.click("U0INES", OPS, ts, "evenkeel_approve")
    slack.wait_for(ledger.promotions.champion, timeout=5)
    slack.command("U0INES", "/model", "", OPS)
    shown(slack, "U0INES", "v1")
    slack.command("U0INES", "/model", "help", OPS)
    slack.open_home("U0INES")
    slack.wait_for(lambda: "v1" in str(slack.home("U0INES")), timeout=5)


def soon(process: Live, seen: Callable[[], Any]) -> None:
    """Let the watch over the runs look again and again until this is seen."""

    def look() -> Any:
        process.bot.workers.wake("runs")
        return seen()

    process.slack.wait_for(look, timeout=5)


def shown(slack: Any, user: str, words: str) -> Json:
    """The modal of this user once it holds these words."""
    return dict(slack.wait_for(lambda: (v := slack.view(user)) and words in json.dumps(v["blocks"]) and v, timeout=5))


def card(slack: Any, process: Live) -> str:
    run = process.ledger.runs.recent(1)[0]
    return str([m.get("blocks") for m in slack.messages(OPS) if m["ts"] == run.message_ts])


def structured(call: Json, name: str) -> Any:
    """An argument that travels as JSON in text."""
    value = call["args"].get(name)
    return json.loads(value) if isinstance(value, str) and value else value


def payloads(journal: list[Json]) -> Iterator[tuple[Json, list[Json]]]:
    """(call, its blocks) for every call that shows blocks."""
    for call in journal:
        blocks = structured(call, "blocks") or (structured(call, "view") or {}).get("blocks")
        if blocks:
            yield call, blocks


def views(journal: list[Json]) -> list[Json]:
    return [view for call in journal if (view := structured(call, "view"))]


def missing(sent: Any, kept: Any, where: str = "") -> list[str]:
    """The places in `sent` that `kept` has not."""
    if isinstance(sent, dict):
        kept = kept if isinstance(kept, dict) else {}
        return [at for name, value in sent.items() for at in missing(value, kept.get(name), f"{where}/{name}")]
    if isinstance(sent, list):
        kept = kept if isinstance(kept, list) and len(kept) == len(sent) else [None] * len(sent)
        return [
            at
            for n, (one, other) in enumerate(zip(sent, kept, strict=True))
            for at in missing(one, other, f"{where}/{n}")
        ]
    return [] if sent == kept else [f"{where}: {sent!r} became {kept!r}"]


def test_the_manifest_keeps_to_slacks_limits() -> None:
    schema = json.loads(Path(__file__).with_name("manifest_schema.json").read_text(encoding="utf-8"))
    manifest = json.loads((ROOM / "manifest.json").read_text(encoding="utf-8"))

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("display_information", "name"), "x" * 36),
        (("display_information", "description"), "x" * 141),
        (("features", "bot_user", "display_name"), "x" * 81),
        (("features", "agent_view", "agent_description"), "x" * 301),
        (("features", "slash_commands", 0, "command"), "retrain"),
        (("settings", "event_subscriptions", "bot_events"), [f"event_{'x' * n}" for n in range(101)]),
        (("oauth_config", "scopes", "user"), ["chat:write"]),
    ],
)
def test_a_manifest_beyond_a_limit_is_found_out(path: tuple[Any, ...], value: Any) -> None:
    schema = json.loads(Path(__file__).with_name("manifest_schema.json").read_text(encoding="utf-8"))
    broken = copy.deepcopy(json.loads((ROOM / "manifest.json").read_text(encoding="utf-8")))
    place = broken
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(broken)


def test_slacks_own_models_know_every_block_and_every_field(journal: list[Json]) -> None:
    seen = 0
    for call, blocks in payloads(journal):
        for block in blocks:
            if block["type"] in NEWER_THAN_THE_SDK:
                continue
            parsed = Block.parse(block)
            assert parsed is not None, block["type"]
            parsed.validate_json()
            lost = missing(block, json.loads(json.dumps(parsed.to_dict())))
            assert not lost, (call["method"], lost)
            seen += 1
    assert seen > 100


def test_slacks_own_model_knows_every_view(journal: list[Json]) -> None:
    kinds = set()
    for view in views(journal):
        parsed = View(**view)
        parsed.validate_json()
        assert not missing({n: v for n, v in view.items() if n != "blocks"}, json.loads(json.dumps(parsed.to_dict())))
        assert len(view.get("private_metadata") or "") <= 3_000
        kinds.add((view["type"], view.get("callback_id")))
    assert {kind for kind, _ in kinds} == {"modal", "home"}
    assert {"evenkeel_correction", "evenkeel_retrain"} <= {name for _, name in kinds}


def test_every_message_and_view_keeps_to_the_limits(journal: list[Json]) -> None:
    for call, blocks in payloads(journal):
        assert len(blocks) <= (100 if call["method"].startswith("views.") else 50)
        markdown = [b["text"] for b in blocks if b["type"] == "markdown"]
        assert sum(map(len, markdown)) <= LONGEST_MARKDOWN
        for element in walk(blocks):
            for name, most in (("action_id", 255), ("block_id", 255), ("value", 2_000), ("initial_value", 3_000)):
                assert len(str(element.get(name) or "")) <= most
            if element.get("type") in ("mrkdwn", "plain_text"):
                assert 0 < len(element["text"]) <= 3_000
            if element.get("type") == "button":
                assert len(element["text"]["text"]) <= 75
        ids = [block["block_id"] for block in blocks if block.get("block_id")]
        assert len(ids) == len(set(ids))
    for call in journal:
        assert len(str(call["args"].get("text") or "")) <= LONGEST_TEXT.get(call["method"], 40_000)
        assert len(str(call["args"].get("markdown_text") or "")) <= LONGEST_MARKDOWN


def walk(value: Any) -> Iterator[Json]:
    """Every object in it."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def test_every_call_is_one_that_slack_sdk_knows_with_arguments_that_it_knows(journal: list[Json]) -> None:
    methods = set()
    for call in journal:
        method = getattr(WebClient, call["method"].replace(".", "_"), None)
        assert method is not None, call["method"]
        known = set(inspect.signature(method).parameters)
        assert set(call["args"]) <= known, (call["method"], set(call["args"]) - known)
        methods.add(call["method"])
    assert {"chat.postMessage", "chat.update", "chat.startStream", "views.open", "views.publish"} <= methods


def test_messages_neither_unfurl_nor_parse_and_always_have_words(journal: list[Json]) -> None:
    for call in journal:
        args = call["args"]
        if call["method"] in ("chat.postMessage", "chat.update", "chat.postEphemeral"):
            assert args.get("text"), call["method"]
        if call["method"] == "chat.postMessage":
            assert str(args.get("unfurl_links")).lower() in ("false", "0"), args["text"][:80]


def test_the_scenario_shows_every_button_and_form_that_the_bot_listens_to(journal: list[Json]) -> None:
    """A new button belongs into the scenario above; then everything here is checked for it."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    named = {
        value
        for names, values in re.findall(r"^((?:[A-Z_]+_(?:ACTION|VIEW)(?:, )?)+) = (.+)$", source, re.MULTILINE)
        for value in re.findall(r'"(evenkeel_\w+)"', values)
    }
    shown_ids = {
        e[name]
        for e in walk([*views(journal), *(b for _, b in payloads(journal))])
        for name in ("action_id", "callback_id")
        if e.get(name)
    }

    assert {name for name in named if not any(each.startswith(name) for each in shown_ids)} == set()
