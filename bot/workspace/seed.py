"""The cast: who and what is in the workspace when it is new, and the secrets that open it (they open nothing else)."""

import json
from pathlib import Path

from bot.workspace.records import App, Channel, Json, User, Usergroup

TEAM, TEAM_NAME, TEAM_DOMAIN = "T0DEMO", "Evenkeel Workspace", "evenkeel-workspace"
BOT_TOKEN, APP_TOKEN, SIGNING_SECRET = "xoxb-local-workspace", "xapp-local-workspace", "local-workspace-secret"
BOT = "U0EVENKEEL"

USERS = (
    User(id="U0MIA", name="mia", real_name="Mia"),
    User(id="U0JONAS", name="jonas", real_name="Jonas"),
    User(id="U0ASHA", name="asha", real_name="Asha"),
    User(id="U0TOM", name="tom", real_name="Tom"),
    User(id="U0INES", name="ines", real_name="Ines", is_admin=True),
    User(id=BOT, name="evenkeel", real_name="Evenkeel", is_bot=True, bot_id="B0EVENKEEL"),
    User(id="U0OTHERBOT", name="otherbot", real_name="Other Bot", is_bot=True, bot_id="B0OTHERBOT"),
)
EVERYBODY = tuple(user.id for user in USERS)
CHANNELS = (
    Channel(id="C0SUPPORT", name="support", kind="channel", members=EVERYBODY, topic="Ask Evenkeel for help"),
    Channel(id="C0OPS", name="ops", kind="channel", members=EVERYBODY, topic="Runs, report cards and alarms"),
    Channel(id="C0GENERAL", name="general", kind="channel", members=EVERYBODY, topic="Everything else"),
)
USERGROUPS = (
    Usergroup(id="S0AGENTS", handle="agents", name="Support agents", users=("U0ASHA", "U0TOM")),
    Usergroup(id="S0ADMINS", handle="admins", name="Admins", users=("U0INES",)),
)


def the_app(manifest: Json | None = None) -> App:
    """The app as its manifest describes it; by default the one that the bot ships."""
    if manifest is None:
        manifest = json.loads(Path(__file__).parents[1].joinpath("manifest.json").read_text(encoding="utf-8"))
    return App(id="A0EVENKEEL", bot_id="B0EVENKEEL", user_id=BOT, manifest=manifest)
