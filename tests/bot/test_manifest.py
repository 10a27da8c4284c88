"""manifest.json asks for what the code uses, and for no more."""

import json
import re
from pathlib import Path
from typing import Any

from slack_sdk import WebClient

import bot
from bot.commands import MODEL_HINT, RETRAIN_HINT

ROOM = Path(bot.__file__).parent
MANIFEST: dict[str, Any] = json.loads((ROOM / "manifest.json").read_text())
SOURCE = "\n".join(path.read_text() for path in ROOM.glob("*.py"))
SCOPES_OF_METHOD = {
    "auth_test": [],
    "chat_postMessage": ["chat:write"],
    "chat_update": ["chat:write"],
    "chat_postEphemeral": ["chat:write"],
    "conversations_replies": ["channels:history", "groups:history", "im:history"],
    "conversations_history": ["channels:history", "groups:history", "im:history"],
    "users_info": ["users:read"],
    "usergroups_users_list": ["usergroups:read"],
    "views_open": [],
    "views_publish": [],
    "files_upload_v2": ["files:write"],
    "chat_delete": ["chat:write"],
    "chat_startStream": ["chat:write"],
    "chat_appendStream": ["chat:write"],
    "chat_stopStream": ["chat:write"],
    "assistant_threads_setStatus": ["assistant:write"],
    "agents_sessions_setStatus": ["assistant:write"],
    "conversations_open": ["im:write"],
    "reactions_get": ["reactions:read"],
    "views_update": [],
    "views_push": [],
}
SCOPES_OF_EVENT = {
    "app_mention": ["app_mentions:read"],
    "message.channels": ["channels:history"],
    "message.groups": ["groups:history"],
    "message.im": ["im:history"],
    "reaction_added": ["reactions:read"],
    "reaction_removed": ["reactions:read"],
    "app_home_opened": [],
    "agent_session_stopped": ["assistant:write"],
}
FEATURES = {"commands", "assistant:write", "im:write"}  # slash commands; agent_view and its messages tab


def test_the_scopes_are_those_of_the_methods_and_events_used() -> None:
    used = {name for name in re.findall(r"client\.([a-z]+_[A-Za-z_0-9]+)", SOURCE) if hasattr(WebClient, name)}
    assert used <= set(SCOPES_OF_METHOD)

    wanted = (*(SCOPES_OF_METHOD[name] for name in used), *SCOPES_OF_EVENT.values())
    needed = {scope for scopes in wanted for scope in scopes} | FEATURES
    assert set(MANIFEST["oauth_config"]["scopes"]["bot"]) == needed


def test_the_events_are_those_that_the_intake_reads() -> None:
    listed = MANIFEST["settings"]["event_subscriptions"]["bot_events"]

    assert set(listed) == set(SCOPES_OF_EVENT)
    assert all(f'"{event.partition(".")[0]}"' in SOURCE for event in listed)


def test_the_commands_are_those_that_have_a_listener() -> None:
    listed = {c["command"]: c["usage_hint"] for c in MANIFEST["features"]["slash_commands"]}

    assert set(listed) == set(re.findall(r'app\.command\("(/\w+)"\)', SOURCE))
    assert listed | {"/retrain": RETRAIN_HINT, "/model": MODEL_HINT} == listed


def test_it_is_an_agent_over_socket_mode_within_slacks_limits() -> None:
    features = MANIFEST["features"]
    assert MANIFEST["settings"]["socket_mode_enabled"] and MANIFEST["settings"]["interactivity"]["is_enabled"]
    assert (
        len(features["agent_view"]["agent_description"]) <= 300
        and len(features["agent_view"]["suggested_prompts"]) <= 4
    )
    assert "assistant_view" not in features and features["app_home"]["messages_tab_enabled"]
    assert (
        len(MANIFEST["display_information"]["name"]) <= 35
        and len(MANIFEST["display_information"]["description"]) <= 140
    )
