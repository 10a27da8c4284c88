"""What the watch after a promotion did or warns of, said in OPS_CHANNEL.

Promise: each is said once, over restarts and two bots; what is older than a day when the bot comes is left to the digest
and the App Home.
"""

from dataclasses import dataclass
from datetime import timedelta

from bot.answer_view import Part, context, section
from bot.once import Once
from bot.safe_text import escape
from storage.ledger import Ledger
from storage.records import Watching
from storage.settings import Settings

OLDEST = timedelta(days=1)
SIGNS = {"rollback": "⏪", "graduated": "🎓", "alert": "⚠️"}
NEXT = {
    "rollback": "Nothing needs you at once. The same adapter goes live again only by an admin's word: `/model`.",
    "graduated": "`/model` shows who answers.",
    "alert": "Nothing was changed. `/model` rolls back, `/retrain` trains anew.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchNotes:
    settings: Settings
    ledger: Ledger
    once: Once

    def step(self) -> bool:
        """Say what is new; always False: it is called again after a pause."""
        channel = self.settings.ops_channel
        for row in self.ledger.watches.news(self.ledger.clock() - OLDEST) if channel else ():
            self.once.say(f"watch:{row.watch_id}", channel, note(row), since=row.at.timestamp() - 1)
        return False


def note(row: Watching) -> Part:
    said = f"{SIGNS[row.verdict]} {escape(row.said)}"[:3_000]
    return Part(text=said, blocks=(section(said), context(NEXT[row.verdict])))
