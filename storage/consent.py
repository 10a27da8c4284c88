"""Who and what may teach: people that an admin excluded, people who were forgotten, contact details that were reviewed.

Promise: who was excluded is in no dataset built afterwards, until it is undone; who did it and when stays on record.
Knows persons by the names that the sources give them. Knows no lesson.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from storage.clock import Clock, from_text, to_text
from storage.database import Connections
from storage.digests import digest_of

ContactVerdict = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """A person whose words and verdicts train nothing, who said so, and when."""

    person: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """Who may not teach: the excluded by name, the forgotten by the digest of theirs, for a name of theirs is kept nowhere."""

    excluded: frozenset[str] = frozenset()
    forgotten: frozenset[str] = frozenset()

    def reason(self, *people: str) -> str:
        """Why something of these people stays out: "forgotten person", "excluded person", or "" when it may come in."""
        named = [person for person in people if person]
        if self.forgotten and any(digest_of(person) in self.forgotten for person in named):
            return "forgotten person"
        return "excluded person" if self.excluded.intersection(named) else ""


class Consent:
    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections, self._clock = connections, clock

    def exclude(self, person: str, *, actor: str) -> bool:
        """Keep a person (an id, or an e-mail address) out of every dataset from now on. False if they are out already."""
        with self._connections.write() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO exclusions(person, actor, at) VALUES (?,?,?)",
                (known_as(person), actor, to_text(self._clock())),
            )
            return bool(cursor.rowcount)

    def include(self, person: str, *, actor: str) -> bool:
        """Undo an exclusion. False if there is none."""
        with self._connections.write() as db:
            cursor = db.execute(
                "UPDATE exclusions SET undone_by=?, undone_at=? WHERE person=? AND undone_at IS NULL",
                (actor, to_text(self._clock()), known_as(person)),
            )
            return bool(cursor.rowcount)

    def exclusions(self) -> tuple[Exclusion, ...]:
        """The exclusions that stand, oldest first."""
        rows = self._connections.db.query(
            "SELECT person, actor, at FROM exclusions WHERE undone_at IS NULL ORDER BY exclusion_id"
        )
        return tuple(Exclusion(**{**row, "at": from_text(row["at"])}) for row in rows)

    def barred(self) -> Barred:
        """Who may not teach now."""
        found = self._connections.db.execute("SELECT json_extract(receipt, '$.subject') FROM erasures").fetchall()
        return Barred(
            excluded=frozenset(x.person for x in self.exclusions()), forgotten=frozenset(row[0] for row in found)
        )

    def judge(self, contact: str, verdict: ContactVerdict, *, actor: str) -> None:
        """An admin's word on a link or a phone number; the newest one counts."""
        with self._connections.write() as db:
            db.execute(
                "INSERT INTO contact_verdicts(contact, verdict, actor, at) VALUES (?,?,?,?)",
                (contact, verdict, actor, to_text(self._clock())),
            )

    def verdicts(self) -> Mapping[str, ContactVerdict]:
        """The newest word on each contact that was judged."""
        rows = self._connections.db.execute(
            "SELECT contact, verdict FROM contact_verdicts ORDER BY contact_verdict_id"
        ).fetchall()
        return dict(rows)


def known_as(person: str) -> str:
    """The name by which the ledger knows a person: an id as it is; an e-mail address, a phone number with its plus or a name
    with a space only by its digest. Pure.
    """
    name = person.strip()
    if re.fullmatch(r"[\w.:-]{0,64}", name):
        return name
    return f"person-{digest_of(name.casefold())[:16]}"
