"""What a person does that the app answers at once: commands, clicks, forms, shortcuts, looking at the home.

Promise: whatever the app answers, and if it does not answer in time, the person gets to see the outcome.
"""

import json
import secrets
from dataclasses import dataclass, field

from bot.workspace import limits, seed
from bot.workspace.courier import Courier, Events
from bot.workspace.events import home_opened, shown, stopped
from bot.workspace.inputs import HOLDS, carried, elements, merged, value_of
from bot.workspace.records import Json
from bot.workspace.refused import Refused
from bot.workspace.sessions import Sessions
from bot.workspace.views import Views
from bot.workspace.world import World, with_block_ids

RESPONSE_USES, RESPONSE_S = 5, 30 * 60


@dataclass(slots=True, kw_only=True)
class ResponseUrl:
    """Where the app may answer later. `ts`: the message that was clicked; None for a command."""

    user: str
    channel: str
    ts: str | None
    thread_ts: str | None
    at: float
    uses: int = 0


@dataclass(slots=True, kw_only=True)
class Interactions:
    world: World
    views: Views
    sessions: Sessions
    courier: Courier
    events: Events
    url: str
    responses: dict[str, ResponseUrl] = field(default_factory=dict)
    picked: dict[tuple[str, str, str], Json] = field(default_factory=dict)  # (user, channel, ts) → state.values

    async def command(self, user: str, command: str, text: str, channel: str) -> Json | None:
        """The app's immediate response; None when there was none in time. Raises Refused invalid_command."""
        if command not in {each["command"] for each in self.world.app.commands}:
            raise Refused("invalid_command", text=f"{command} is not a command of this workspace.")
        place, person = self.world.writable(channel, user), self.world.user(user)
        payload = {
            "command": command,
            "text": text,
            "user_id": user,
            "user_name": person.name,
            "channel_id": place.id,
            "channel_name": "directmessage" if place.kind == "im" else place.name,
            "team_id": seed.TEAM,
            "team_domain": seed.TEAM_DOMAIN,
            "api_app_id": self.world.app.id,
            "is_enterprise_install": "false",
            "token": "local-verification",
            "trigger_id": self.views.trigger(user),
            "response_url": self._response_url(user, channel, None, None),
        }
        answer = await self.courier.send("slash_commands", payload, again=False)
        if answer is None:
            failed = f"{command} failed with the error “operation_timeout”. Is the bot running?"
            self.world.whisper(user, channel, {"text": failed}, app=False)
        elif answer.get("text") or answer.get("blocks"):
            self._speak(ResponseUrl(user=user, channel=channel, ts=None, thread_ts=None, at=0.0), answer)
        return answer

    async def click(self, user: str, place: Json, action: Json, values: Json | None = None) -> bool:
        """A press on an element; False when the app did not ack. Raises Refused.

        `place`: {channel, ts} or {view_id}; `values`: what stands in the inputs of a view meanwhile.
        """
        payload = self._interaction("block_actions", user)
        view = self.views.find(user, place["view_id"]) if place.get("view_id") else None
        blocks = view["blocks"] if view else self._clicked_message(user, place["channel"], place["ts"], payload)
        act = {**pressed(blocks, action), "action_ts": self.world.next_ts()}
        payload["actions"] = [act]
        if view:
            self.views.fill(view, merged(values or {}, value_of(act)))
            payload |= {"view": view, "container": {"type": "view", "view_id": view["id"]}}
        else:
            payload["state"] = {"values": self._chosen(user, place["channel"], place["ts"], blocks, act)}
        return await self.courier.send("interactive", payload, again=False) is not None

    def _chosen(self, user: str, channel: str, ts: str, blocks: list[Json], act: Json) -> Json:
        """What this person has picked in the inputs of a message so far."""
        key = (user, channel, ts)
        self.picked[key] = carried(blocks, merged(self.picked.get(key, {}), value_of(act)))
        return self.picked[key]

    def _clicked_message(self, user: str, channel: str, ts: str, payload: Json) -> list[Json]:
        place = self.world.channel(channel)
        note = self.world.note(user, channel, ts)
        message = note or self.world.message(channel, ts)
        thread_ts = message.get("thread_ts")
        container = {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": note is not None}
        payload["container"] = {**container, **({"thread_ts": thread_ts} if thread_ts else {})}
        payload["channel"] = {"id": channel, "name": place.name or "directmessage"}
        payload["response_url"] = self._response_url(user, channel, ts, thread_ts)
        if note is None:
            payload["message"] = shown(message)
        return list(message.get("blocks") or [])

    async def submit(self, user: str, view_id: str, values: Json) -> Json:
        """Send a form: {"errors": {block_id: text}} when the app refuses it, {"view": …} when it shows another, else {}.

        Raises Refused: not_found, operation_timeout, invalid_arguments (the app answered with a broken view).
        """
        view = self.views.find(user, view_id)
        self.views.fill(view, values)
        payload = {**self._interaction("view_submission", user), "view": view, "response_urls": []}
        answer = await self.courier.send("interactive", payload, again=False)
        if answer is None:
            raise Refused("operation_timeout", text="The bot did not take the form in time. Try again.")
        kind = answer.get("response_action")
        if kind == "errors":
            return {"errors": answer.get("errors", {})}
        if kind == "update":
            checked = limits.view(answer.get("view"), kind="modal")
            return {"view": self.views.update(checked, view_id=view_id, external_id=None, hash=None)}
        if kind == "push":
            return {"view": self.views.put(user, limits.view(answer.get("view"), kind="modal"), push=True)}
        if kind == "clear":
            self.views.clear(user)
        else:
            self.views.close(user, view_id)
        below = self.views.top(user)
        return {"view": below} if below else {}

    async def close(self, user: str, view_id: str) -> None:
        """The person closed a modal; an app that asked for it is told."""
        view = self.views.find(user, view_id)
        self.views.close(user, view_id)
        if view["notify_on_close"]:
            payload = {**self._interaction("view_closed", user), "view": view, "is_cleared": False}
            await self.courier.send("interactive", payload, again=False)

    async def shortcut(self, user: str, channel: str, ts: str, callback_id: str) -> bool:
        """A message shortcut of the manifest; False when the app did not ack. Raises Refused."""
        if callback_id not in {each["callback_id"] for each in self.world.app.shortcuts}:
            raise Refused("invalid_shortcut", text=f"No shortcut {callback_id} is in the app's manifest.")
        message = self.world.message(channel, ts)
        payload = self._interaction("message_action", user)
        payload |= {
            "callback_id": callback_id,
            "message": shown(message),
            "message_ts": ts,
            "action_ts": self.world.next_ts(),
            "channel": {"id": channel, "name": self.world.channel(channel).name or "directmessage"},
            "response_url": self._response_url(user, channel, None, message.get("thread_ts")),
        }
        return await self.courier.send("interactive", payload, again=False) is not None

    def home(self, user: str) -> None:
        """The person looks at the App Home."""
        channel = self.world.dm(user, self.world.app.user_id).id
        self.events.tell(home_opened(user, channel, self.views.homes.get(user)))

    def stop(self, user: str, channel: str, thread_ts: str) -> None:
        """The person presses Stop under a thread. Raises Refused not_processing, not_in_channel …"""
        self.world.writable(channel, user)
        self.events.tell(stopped(user, channel, thread_ts, self.sessions.stop(channel, thread_ts)))

    def _interaction(self, kind: str, user: str) -> Json:
        person = self.world.user(user)
        who = {"id": user, "username": person.name, "name": person.name, "team_id": person.team_id}
        return {
            "type": kind,
            "user": who,
            "team": {"id": seed.TEAM, "domain": seed.TEAM_DOMAIN},
            "api_app_id": self.world.app.id,
            "token": "local-verification",
            "enterprise": None,
            "is_enterprise_install": False,
            "trigger_id": self.views.trigger(user),
        }

    # response_url

    def _response_url(self, user: str, channel: str, ts: str | None, thread_ts: str | None) -> str:
        name = secrets.token_hex(16)
        now = self.world.now()
        while self.responses and now - next(iter(self.responses.values())).at > RESPONSE_S:
            del self.responses[next(iter(self.responses))]
        self.responses[name] = ResponseUrl(user=user, channel=channel, ts=ts, thread_ts=thread_ts, at=now)
        return f"{self.url}respond/{name}"

    def respond(self, name: str, body: bytes) -> None:
        """What the app sends to a response_url. Raises Refused used_url, expired_url, invalid_payload …"""
        found = self.responses.get(name)
        if found is None or self.world.now() - found.at > RESPONSE_S:
            raise Refused("expired_url")
        if found.uses >= RESPONSE_USES:
            raise Refused("used_url")
        try:
            given = json.loads(body)
        except ValueError:
            raise Refused("invalid_payload") from None
        if not isinstance(given, dict):
            raise Refused("invalid_payload")
        self._speak(found, given)
        found.uses += 1

    def _speak(self, to: ResponseUrl, given: Json) -> None:
        if given.get("delete_original") and to.ts:
            self._rewrite(to.user, to.channel, to.ts, None)
            return
        content = limits.content(given)
        content["blocks"] = with_block_ids(content.get("blocks", []))
        if given.get("replace_original") and to.ts:
            self._rewrite(to.user, to.channel, to.ts, content)
        elif given.get("response_type") == "in_channel":
            self.world.post(to.channel, self.world.app.user_id, content, thread_ts=given.get("thread_ts"))
        else:
            self.world.whisper(to.user, to.channel, content, thread_ts=given.get("thread_ts") or to.thread_ts)

    def _rewrite(self, user: str, channel: str, ts: str, content: Json | None) -> None:
        if self.world.note(user, channel, ts):
            self.world.change_note(user, channel, ts, content)
        elif content is None:
            self.world.delete(channel, ts)
        else:
            self.world.edit(channel, ts, content, by=self.world.app.user_id)


def pressed(blocks: list[Json], action: Json) -> Json:
    """The action object of a press. `action`: action_id, and block_id, value, selected where known.

    Raises Refused invalid_action when nothing there has this action_id.
    """
    for block in blocks:
        if action.get("block_id") not in (None, block.get("block_id")):
            continue
        for element in elements(block):
            if element.get("action_id") == action["action_id"]:
                return _pressed(block, element, action.get("value"), action.get("selected"))
    raise Refused("invalid_action", text=f"Nothing here has the action_id {action['action_id']}.")


def _pressed(block: Json, element: Json, value: str | None, selected: object) -> Json:
    said: Json = {"action_id": element["action_id"], "block_id": block.get("block_id", ""), "type": element["type"]}
    if element.get("text"):
        said["text"] = element["text"]
    if element["type"] == "feedback_buttons":
        sides = (element.get("positive_button") or {}, element.get("negative_button") or {})
        side = next((side for side in sides if side.get("value") == value), sides[0])
        return {**said, "text": side.get("text"), "value": side.get("value")}
    holds = HOLDS.get(element["type"], ("selected_option" if element["type"] == "overflow" else "value",))[0]
    if holds.startswith("selected_option"):
        return {**said, holds: _option(element, value) if selected is None else selected}
    chosen = value if value is not None else element.get("value")
    return {**said, holds: chosen} if chosen is not None else said


def _option(element: Json, value: str | None) -> object:
    """The option with this value; of checkboxes a list, its values separated by commas."""
    groups = element.get("option_groups") or [element]
    options = [option for group in groups for option in group.get("options") or []]
    if element["type"] in ("checkboxes", "multi_static_select"):
        return [option for option in options if option.get("value") in (value or "").split(",")]
    found = next((option for option in options if option.get("value") == value), None)
    if found is None:
        raise Refused("invalid_action", text=f"{element['action_id']} has no option {value}.")
    return found
