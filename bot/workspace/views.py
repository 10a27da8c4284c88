"""Modals and App Homes: what each person has open, up to three modals on top of each other.

Promise: a trigger opens one modal within three seconds and no second; a stale hash changes nothing.
"""

import secrets
from dataclasses import dataclass, field

from bot.workspace import seed
from bot.workspace.inputs import carried, merged
from bot.workspace.records import HomeShown, Json, ModalShown
from bot.workspace.refused import Refused
from bot.workspace.world import World, new_id, with_block_ids

TRIGGER_S, KEPT_TRIGGERS = 3.0, 2_000
DEEPEST = 3


@dataclass(slots=True, kw_only=True)
class Views:
    world: World
    open: dict[str, list[Json]] = field(default_factory=dict)
    homes: dict[str, Json] = field(default_factory=dict)
    triggers: dict[str, tuple[str, float]] = field(default_factory=dict)

    def trigger(self, user: str) -> str:
        """A trigger id that lets the app open one modal for this user, now."""
        name = f"{secrets.randbelow(10**12)}.{secrets.randbelow(10**12)}.{secrets.token_hex(16)}"
        while len(self.triggers) >= KEPT_TRIGGERS:
            del self.triggers[next(iter(self.triggers))]
        self.triggers[name] = (user, self.world.now())
        return name

    def _spend(self, trigger: str) -> str:
        if trigger not in self.triggers:
            raise Refused("invalid_trigger_id")
        user, at = self.triggers[trigger]
        if self.world.now() - at > TRIGGER_S:
            raise Refused("expired_trigger_id")
        self.triggers[trigger] = (user, at - 600)  # a second use reads as expired
        return user

    def show(self, trigger: str, view: Json, *, push: bool) -> Json:
        """views.open and views.push. Raises Refused."""
        user = self._spend(trigger)
        stack = self.open.get(user, [])
        if push and len(stack) >= DEEPEST:
            raise Refused("push_limit_reached")
        return self.put(user, view, push=push)

    def put(self, user: str, view: Json, *, push: bool) -> Json:
        """A new modal for this user, alone or on top."""
        stack = self.open.get(user, []) if push else []
        whole = self._whole(view, root=stack[0]["root_view_id"] if stack else None)
        whole["previous_view_id"] = stack[-1]["id"] if stack else None
        self.open[user] = [*stack, whole]
        self.world.tell(ModalShown(user=user, view=whole))
        return whole

    def update(self, view: Json, *, view_id: str | None, external_id: str | None, hash: str | None) -> Json:
        """Another content in an open modal. Raises Refused not_found, hash_conflict."""
        for user, stack in self.open.items():
            for at, known in enumerate(stack):
                if view_id == known["id"] or (external_id and external_id == known.get("external_id")):
                    return self._replace(user, at, view, hash)
        raise Refused("not_found")

    def _replace(self, user: str, at: int, view: Json, hash: str | None) -> Json:
        stack = self.open[user]
        if hash is not None and hash != stack[at]["hash"]:
            raise Refused("hash_conflict")
        fresh = self._whole(view, root=stack[at]["root_view_id"], before=stack[at]["state"]["values"])
        stack[at] = {**fresh, "id": stack[at]["id"], "previous_view_id": stack[at]["previous_view_id"]}
        self.world.tell(ModalShown(user=user, view=stack[-1]))
        return stack[at]

    def publish(self, user: str, view: Json, hash: str | None) -> Json:
        """This person's App Home. Raises Refused user_not_found, hash_conflict."""
        known = self.homes.get(self.world.user(user).id)
        if hash is not None and known is not None and hash != known["hash"]:
            raise Refused("hash_conflict")
        whole = self._whole(view, root=None, before=known["state"]["values"] if known else {})
        if known is not None:
            whole["id"] = whole["root_view_id"] = known["id"]
        self.homes[user] = whole
        self.world.tell(HomeShown(user=user, view=whole))
        return whole

    def find(self, user: str, view_id: str) -> Json:
        """An open modal or the home of this user. Raises Refused not_found."""
        shown = [*self.open.get(user, []), *([self.homes[user]] if user in self.homes else [])]
        found = next((view for view in shown if view["id"] == view_id), None)
        if found is None:
            raise Refused("not_found")
        return found

    def close(self, user: str, view_id: str) -> None:
        """Take this modal (and what lies on it) away; the one below shows again."""
        stack = self.open.get(user, [])
        self.open[user] = stack[: next((at for at, view in enumerate(stack) if view["id"] == view_id), len(stack))]
        self.world.tell(ModalShown(user=user, view=self.top(user)))

    def clear(self, user: str) -> None:
        """Take every modal away."""
        self.open[user] = []
        self.world.tell(ModalShown(user=user, view=None))

    def top(self, user: str) -> Json | None:
        stack = self.open.get(user)
        return stack[-1] if stack else None

    def fill(self, view: Json, values: Json) -> None:
        """What a person has typed and picked in this view by now."""
        view["state"] = {"values": merged(view["state"]["values"], values)}

    def _whole(self, view: Json, *, root: str | None, before: Json | None = None) -> Json:
        """The view as Slack returns it. What was typed `before` stays where the same input is still there."""
        name, blocks = new_id("V"), with_block_ids(view.get("blocks", []))
        return {
            "private_metadata": "", "callback_id": "", "external_id": "", "title": None, "submit": None, "close": None,
            "clear_on_close": False, "notify_on_close": False, **view, "id": name, "team_id": seed.TEAM,
            "blocks": blocks, "state": {"values": carried(blocks, before or {})},
            "hash": f"{self.world.now():.0f}.{secrets.token_hex(4)}", "root_view_id": root or name,
            "previous_view_id": None, "app_id": self.world.app.id, "bot_id": self.world.app.bot_id,
        }  # fmt: skip
