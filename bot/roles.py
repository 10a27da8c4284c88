"""Who may do what: admins and agents are named in the settings, by user id or by usergroup.

Promise: nobody passes by mistake. Bots, guests, strangers from other teams and deactivated people never do, and a
look-up that fails means no ("unknown").
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from slack_sdk import WebClient

from bot.slack import SLACK_ERRORS, Me, trouble_of
from storage.records import RaterRole

log = structlog.get_logger()
REMEMBER_S = 60.0
TEAM: tuple[RaterRole, ...] = ("agent", "admin")  # whose word counts; a customer's does not


class Roles:
    """Looked up at the time of use, remembered for a minute. Any thread may ask."""

    def __init__(
        self,
        client: WebClient,
        me: Me,
        *,
        admins: Sequence[str],
        agents: Sequence[str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._me, self._admins, self._agents = client, me, tuple(admins), tuple(agents)
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._known: dict[str, tuple[float, RaterRole]] = {}

    def role_of(self, user: str) -> RaterRole:
        """admin, agent or customer; unknown when Slack could not be asked. An unknown is asked again next time."""
        with self._lock:
            until, role = self._known.get(user, (0.0, "unknown"))
        if self._monotonic() < until:
            return role
        try:
            role = self._look_up(user)
        except SLACK_ERRORS as error:
            log.warning("role_unknown", user=user, code=trouble_of(error).code)
            return "unknown"
        with self._lock:
            self._known[user] = (self._monotonic() + REMEMBER_S, role)
        return role

    def _look_up(self, user: str) -> RaterRole:
        claimed: RaterRole = "customer"
        if self._named(user, self._admins):
            claimed = "admin"
        elif self._named(user, self._agents):
            claimed = "agent"
        if claimed != "customer" and not trustworthy(self._client.users_info(user=user).get("user"), self._me.team):
            log.warning("role_refused", user=user, claimed=claimed)
            return "customer"
        return claimed

    def _named(self, user: str, names: tuple[str, ...]) -> bool:
        if user in names:
            return True
        return any(
            user in (self._client.usergroups_users_list(usergroup=group).get("users") or ())
            for group in names
            if group.startswith("S")
        )


def trustworthy(user: Any, team: str) -> bool:
    """A full, living, human member of our own workspace."""
    if not isinstance(user, dict) or user.get("team_id") != team or user.get("id") == "USLACKBOT":
        return False
    return not any(
        user.get(flag) for flag in ("deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger")
    )
