"""The form behind `/retrain`: what a run would find, and the levers with their safe ranges.

Promise: the role and every value are checked again when the form is sent; a value that is refused is named at its
field, and nothing starts. With words, `/retrain` starts at once (bot/commands.py).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt import Ack, App, Respond
from slack_sdk import WebClient

from bot.answer_view import context, section
from bot.commands import Commands
from bot.modals import View, modal, open_then_fill, plain
from bot.outlook import data_warnings, estimate_text, lessons_text
from bot.replies import private
from bot.safe_text import printable
from storage.errors import EvenkeelError, RecipeError
from storage.outlook import Facts, look_ahead
from storage.recipe import PROFILES, RANGES, Recipe, parse_value, recipe_from, warning_for
from storage.records import Run
from storage.runs import Pace
from storage.settings import Settings

RETRAIN_VIEW = "evenkeel_retrain"
TITLE = "Train a candidate"
OPTIONS = "options"
PROFILE = "profile"
LEVERS = {
    "learning_rate": "Learning rate",
    "epochs": "Epochs",
    "lora_rank": "LoRA rank",
    "batch_size": "Batch size",
    "replay_share": "Replay share",
    "kl_weight": "Pull to the base (KL)",
}
NO_FORM = (
    "The form could not be shown. `/retrain now` starts a run with the settings' recipe; `/retrain help` has more."
)
PATIENCE_S = 1.5  # a form wants its answer within three seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainForm:
    commands: Commands
    client: WebClient

    def open(self, command: Mapping[str, Any], respond: Respond) -> None:
        """Show the form to an admin; anybody else reads why not."""
        user, channel = command["user_id"], command["channel_id"]
        if refusal := self.commands.refusal(user, "retrain"):
            private(self.client, channel, user, refusal, respond=respond)
            return
        place = json.dumps({"channel": channel, "response_url": command.get("response_url", "")})
        if not open_then_fill(self.client, command["trigger_id"], TITLE, lambda: self.view(place)):
            private(self.client, channel, user, NO_FORM, respond=respond)

    def view(self, place: str) -> View:
        """The form as things stand now."""
        ledger, settings = self.commands.ledger, self.commands.settings
        return form(look_ahead(ledger.connections), settings, ledger.runs.pace(), ledger.runs.active(), place)

    def submit(self, body: Mapping[str, Any]) -> tuple[dict[str, str], str]:
        """(what is wrong by field, "") or ({}, what to tell the person): then the run is requested."""
        user, view = body["user"]["id"], body["view"]
        with self.commands.ledger.connections.patience(PATIENCE_S):
            if refusal := self.commands.refusal(user, "retrain"):
                return {OPTIONS: refusal}, ""
            overrides, errors = read(view["state"]["values"], self.commands.settings)
            if errors:
                return errors, ""
            try:
                return {}, self.commands.request(user, overrides, json.loads(view["private_metadata"])["channel"])
            except EvenkeelError as error:
                return {OPTIONS: str(error)}, ""

    def tell(self, body: Mapping[str, Any], said: str) -> None:
        """Where the command was typed, also where the bot is no member."""
        place = json.loads(body["view"]["private_metadata"])
        url = place["response_url"]
        respond = Respond(response_url=url, proxy=None, ssl=None) if url else None
        private(self.client, place["channel"], body["user"]["id"], said, respond=respond)

    def listen(self, app: App) -> None:
        """`/retrain`, and its form when it is sent."""

        @app.command("/retrain")
        def on_retrain(ack: Ack, command: dict[str, Any], respond: Respond) -> None:
            ack()
            user, channel, text = command["user_id"], command["channel_id"], command.get("text") or ""
            if not text.strip():
                self.open(command, respond)
                return
            private(self.client, channel, user, self.commands.retrain(user, text, channel), respond=respond)

        @app.view(RETRAIN_VIEW)
        def on_sent(ack: Ack, body: dict[str, Any]) -> None:
            errors, said = self.submit(body)
            if errors:
                ack(response_action="errors", errors=errors)
                return
            ack()
            self.tell(body, said)


def read(values: Mapping[str, Any], settings: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """(overrides, errors by field) of a sent form: the same rules as for the words of the command."""
    chosen = ((values.get(OPTIONS) or {}).get(OPTIONS) or {}).get("selected_options") or ()
    overrides: dict[str, Any] = {option["value"]: True for option in chosen}
    errors = {}
    for name in (PROFILE, *LEVERS):
        given = (values.get(name) or {}).get(name) or {}
        typed = printable((given.get("selected_option") or given).get("value") or "").strip()
        try:
            if typed and not (name == PROFILE and typed == settings.training_profile):
                overrides[name] = parse_value(name, typed)
        except RecipeError as error:
            errors[name] = str(error)
    if errors or overrides.keys() & {"force", "dry_run"}:
        return overrides, errors
    return overrides, unsafe(overrides, settings)


def unsafe(overrides: Mapping[str, Any], settings: Settings) -> dict[str, str]:
    """Every value outside its safe interval with the reason, at its field; also those that the settings bring."""
    try:
        recipe = recipe_from(settings, overrides)
    except RecipeError as error:
        return {OPTIONS: str(error)}
    errors = {}
    for name in RANGES:
        value = getattr(recipe, name)
        if value is not None and (warning := warning_for(name, value)):
            errors[name if name in LEVERS else OPTIONS] = (
                f"{warning}. Tick “Start in spite of warnings” if you mean it."
            )
    return errors


def form(facts: Facts, settings: Settings, pace: Pace | None, active: Run | None, place: str) -> View:
    """The modal. Pure. Raises RecipeError when the settings' own recipe cannot work."""
    recipe = recipe_from(settings, {})
    warnings = [f"⚠️ {warning}" for warning in data_warnings(facts, settings)]
    busy = (
        f"⏳ Run {active.run_id} is active ({active.state}): a second one can start when it is over." if active else ""
    )
    blocks = [
        *([section(busy)] if busy else []),
        section(lessons_text(facts, settings)),
        section(estimate_text(facts, settings, recipe, pace)),
        *([section("\n".join(warnings))] if warnings else []),
        {"type": "divider"},
        profiles(recipe),
        *(lever(name, label, recipe) for name, label in LEVERS.items()),
        options(),
        context("Empty fields keep the value shown, or what another profile brings. The gate decides what goes live."),
    ]
    return modal(
        TITLE, *blocks, close="Cancel", submit=plain("Start"), callback_id=RETRAIN_VIEW, private_metadata=place
    )


def lever(name: str, label: str, recipe: Recipe) -> dict[str, Any]:
    """One value: its name, its safe and allowed range, and what holds when it is left empty."""
    limits, value = RANGES[name], getattr(recipe, name)
    shown = "chosen by the base's width" if value is None else f"{value:g}"
    hint = f"safe {limits.safe_low:g} to {limits.safe_high:g}, allowed {limits.low:g} to {limits.high:g}"
    element = {"type": "plain_text_input", "action_id": name, "placeholder": plain(shown), "max_length": 40}
    return {"type": "input", "block_id": name, "optional": True, "label": plain(label), "hint": plain(hint),
            "element": element}  # fmt: skip


def profiles(recipe: Recipe) -> dict[str, Any]:
    """How far the run may go, as one choice; what is typed below wins over it."""
    choices = [{"value": name, "text": plain(name), "description": plain(p.says)} for name, p in PROFILES.items()]
    chosen = next(choice for choice in choices if choice["value"] == recipe.profile)
    element = {"type": "static_select", "action_id": PROFILE, "options": choices, "initial_option": chosen}
    return {"type": "input", "block_id": PROFILE, "optional": True, "label": plain("Profile"), "element": element}


def options() -> dict[str, Any]:
    force = {"value": "force", "text": plain("Start in spite of warnings"),
             "description": plain("Wanted for values outside their safe range")}  # fmt: skip
    dry = {"value": "dry_run", "text": plain("Dry run"),
           "description": plain("Build the dataset and say what would be trained; train nothing")}  # fmt: skip
    element = {"type": "checkboxes", "action_id": OPTIONS, "options": [force, dry]}
    return {"type": "input", "block_id": OPTIONS, "optional": True, "label": plain("How"), "element": element}
