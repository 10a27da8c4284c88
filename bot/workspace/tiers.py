"""How often each method may be called: Slack's tiers, by method and app.

Promise: a call over the limit does not act and learns how long to wait. Only the start of a stream is always held to
its limit; the rest when a test asks for it. Source: docs.slack.dev/apis/web-api/rate-limits and the methods' pages.
"""

import math
from collections import deque
from dataclasses import dataclass, field

MINUTE = 60.0
T2, T3, T4 = (20, MINUTE), (50, MINUTE), (100, MINUTE)
LIMITS: dict[str, tuple[int, float]] = {
    "chat.postMessage": (5, 5.0),  # one a second in each channel, in small bursts
    "chat.update": T3, "chat.delete": T3, "chat.getPermalink": T4, "chat.postEphemeral": T4,
    "chat.startStream": T2, "chat.stopStream": T2, "chat.appendStream": T4,
    "views.open": T4, "views.push": T4, "views.update": T4, "views.publish": T4,
    "users.info": T4, "users.list": T2, "users.conversations": T3, "usergroups.list": T2, "usergroups.users.list": T2,
    "reactions.add": T3, "reactions.remove": T2, "reactions.get": T3,
    "conversations.info": T3, "conversations.open": T3, "conversations.list": T2, "conversations.members": T4,
    "conversations.history": T3, "conversations.replies": T3,
    "assistant.threads.setTitle": T4, "assistant.threads.setSuggestedPrompts": T4,
    "agents.sessions.setStatus": T3, "agents.sessions.rename": T3,
    "files.getUploadURLExternal": T4, "files.completeUploadExternal": T4, "apps.connections.open": T3,
}  # fmt: skip
ALWAYS, BY_CHANNEL = {"chat.startStream"}, {"chat.postMessage"}


@dataclass(slots=True, kw_only=True)
class Tiers:
    """The calls of the last minute. `enforced`: all methods are held to their limits."""

    enforced: bool = False
    _taken: dict[tuple[str, str], deque[float]] = field(default_factory=dict)

    def wait_s(self, method: str, channel: str, now: float) -> int:
        """Take one call, or the whole seconds (at least one) until one is free again."""
        if method not in LIMITS or not (self.enforced or method in ALWAYS):
            return 0
        most, within_s = LIMITS[method]
        taken = self._taken.setdefault((method, channel if method in BY_CHANNEL else ""), deque())
        while taken and now - taken[0] >= within_s:
            taken.popleft()
        if len(taken) < most:
            taken.append(now)
            return 0
        return max(1, math.ceil(taken[0] + within_s - now))

    def forget(self) -> None:
        """As if nothing had been called for a minute."""
        self._taken.clear()
