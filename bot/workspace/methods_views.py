"""views.*, assistant.threads.* and agents.sessions.*: what the app draws beside its messages."""

from bot.workspace import limits
from bot.workspace.api import Api, Method, missing, need
from bot.workspace.records import Json
from bot.workspace.refused import Refused

WORKING = {"processing": "is working on it…", "active": "", "suspended": "", "closed": ""}
MOST_PROMPTS, MOST_LOADING, LONGEST_TITLE = 4, 10, 200


def open_view(api: Api, given: Json) -> Json:
    return {"view": api.views.show(_trigger(given), limits.view(given.get("view"), kind="modal"), push=False)}


def push_view(api: Api, given: Json) -> Json:
    return {"view": api.views.show(_trigger(given), limits.view(given.get("view"), kind="modal"), push=True)}


def _trigger(given: Json) -> str:
    return need({"trigger_id": given.get("trigger_id") or given.get("interactivity_pointer")}, "trigger_id")


def update_view(api: Api, given: Json) -> Json:
    if not given.get("view_id") and not given.get("external_id"):
        raise missing("view_id")
    names = {name: given.get(name) or None for name in ("view_id", "external_id", "hash")}
    return {"view": api.views.update(limits.view(given.get("view"), kind="modal"), **names)}


def publish_view(api: Api, given: Json) -> Json:
    view = limits.view(given.get("view"), kind="home")
    return {"view": api.views.publish(need(given, "user_id"), view, given.get("hash") or None)}


# The line under a thread, its title, and the prompts that it offers


def set_status(api: Api, given: Json) -> Json:
    channel, thread_ts = _thread(api, given)
    if len(given.get("loading_messages") or []) > MOST_LOADING:
        said = f"[ERROR] no more than {MOST_LOADING} loading_messages"
        raise Refused("invalid_arguments", response_metadata={"messages": [said]})
    api.sessions.status(channel, thread_ts, str(given.get("status") or ""))
    return {}


def set_title(api: Api, given: Json) -> Json:
    api.sessions.note(*_thread(api, given), title=need(given, "title"))
    return {}


def set_prompts(api: Api, given: Json) -> Json:
    prompts = given.get("prompts")
    if not isinstance(prompts, list) or not prompts:
        raise missing("prompts")
    if len(prompts) > MOST_PROMPTS or not all(
        isinstance(p, dict) and p.get("title") and p.get("message") for p in prompts
    ):
        raise Refused(
            "invalid_arguments", response_metadata={"messages": ["[ERROR] 1 to 4 prompts with title and message"]}
        )
    channel = api.world.channel(need(given, "channel_id"))
    api.sessions.note(channel.id, str(given.get("thread_ts") or ""), prompts=prompts)
    return {}


def set_session(api: Api, given: Json) -> Json:
    status = session_status(need(given, "status"))
    place = _thread(api, given)
    if given.get("title"):
        api.sessions.note(*place, title=_title(given))
    api.sessions.set(*place, status)
    api.sessions.status(*place, WORKING[status])
    return {}


def rename_session(api: Api, given: Json) -> Json:
    api.sessions.note(*_thread(api, given), title=_title(given))
    return {}


def session_status(status: str) -> str:
    """Raises Refused invalid_status."""
    if status not in WORKING:
        raise Refused("invalid_status")
    return status


def _title(given: Json) -> str:
    title = need(given, "title")
    if len(title) > LONGEST_TITLE:
        said = f"[ERROR] title must be at most {LONGEST_TITLE} characters"
        raise Refused("invalid_arguments", response_metadata={"messages": [said]})
    return title


def _thread(api: Api, given: Json) -> tuple[str, str]:
    channel = api.world.channel(need(given, "channel_id"))
    if api.me not in channel.members:
        raise Refused("channel_not_found")
    return channel.id, api.world.message(channel.id, need(given, "thread_ts"))["ts"]


METHODS: dict[str, Method] = {
    "views.open": open_view,
    "views.push": push_view,
    "views.update": update_view,
    "views.publish": publish_view,
    "assistant.threads.setStatus": set_status,
    "assistant.threads.setTitle": set_title,
    "assistant.threads.setSuggestedPrompts": set_prompts,
    "agents.sessions.setStatus": set_session,
    "agents.sessions.rename": rename_session,
}
