"""Links and phone numbers in answers, and whether an admin has to look at them before anybody learns them.

Promise: a detail that no earlier dataset had and nobody allowed is never learned; a denied one never again. Known at the
start is what the imported tickets carry. The manifest names contacts by digest, so that it holds no number. Pure.
"""

import re
from collections.abc import Sequence

from storage.digests import digest_of
from storage.records import Lesson
from training.findings import Context, Held, Notes
from training.redact import phones_in

KIND_NEW, KIND_DENIED = "new link or phone number", "denied link or phone number"
# A bare name counts as a link with one of these ends, or with any end where a path follows.
_ENDS = (
    "com|net|org|io|ai|app|dev|info|biz|shop|store|online|site|website|xyz|top|club|link|live|page|support|help|cloud|me|co|gg|"
    "tv|us|uk|de|es|fr|it|nl|eu|at|ch|pl|pt|se|no|dk|fi|ie|ru|cn|jp|in|br|mx|au|ca|example"
)
_LINK = re.compile(
    r"(?<![@\w])(?:(?:https?|ftp)://|www\.)[^\s<>()\[\]\"'|]+"
    rf"|(?<![@\w./-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:(?:{_ENDS})\b|[a-z]{{2,}}(?=/))(?:[:/][^\s<>()\[\]\"'|]*)?",
    re.IGNORECASE,
)


def contacts_in(text: str) -> list[str]:
    """Links as host and path in lower case, without scheme, www, query and fragment; phone numbers with their digits."""
    links = {_plain(match.group()) for match in _LINK.finditer(text)}
    return sorted({*links, *phones_in(text)} - {""})


def _plain(link: str) -> str:
    address = re.sub(r"^[a-z]+://", "", link.lower()).removeprefix("www.")
    return re.split(r"[?#]", address)[0].rstrip("/.,;:!*_`")


def name_of(contact: str) -> str:
    """How a manifest names a contact without saying it."""
    return digest_of(["contact", contact])[:16]


def allowed_phones(context: Context) -> frozenset[str]:
    """The phone numbers that are the company's own: they are not redacted."""
    return frozenset(c for c, verdict in context.verdicts.items() if verdict == "allow" and "/" not in c)


def sift(lessons: Sequence[Lesson], context: Context, notes: Notes) -> tuple[list[Lesson], list[Held], set[str]]:
    """(the lessons that may stay, what waits for review, the names of all contacts that passed)."""
    carried = {lesson.lesson_id: _carried(lesson) for lesson in lessons}
    start = {c for x in lessons if x.source == "ticket" for c in carried[x.lesson_id]}
    kept, waiting, passed = list[Lesson](), dict[str, list[Lesson]](), set[str]()
    for lesson in lessons:
        words = {contact: _word(contact, context, start) for contact in carried[lesson.lesson_id]}
        if "deny" in words.values():
            notes.add(KIND_DENIED, "removed", lesson)
        elif new := [contact for contact, word in words.items() if word == "new"]:
            notes.add(KIND_NEW, "held", lesson, note="next: evenkeel data review")
            for contact in new:
                waiting.setdefault(contact, []).append(lesson)
        else:
            kept.append(lesson)
            passed |= {name_of(contact) for contact in words}
    held = [Held(contact=contact, lessons=tuple(waiting[contact])) for contact in sorted(waiting)]
    return kept, held, passed


def _carried(lesson: Lesson) -> list[str]:
    """What the answer brings in; a phone number that the customer gave is redacted anyway and is no news."""
    told = {phone for message in lesson.messages for phone in phones_in(message["content"])}
    return [contact for contact in contacts_in(lesson.answer) if contact not in told]


def _word(contact: str, context: Context, start: set[str]) -> str:
    """allow, deny, or new: the nearest word counts, a host's for all that is below it."""
    for name in (contact, contact.split("/")[0]):
        if name in context.verdicts:
            return context.verdicts[name]
    host = contact.split("/")[0]
    if any(host == own.lower() or host.endswith(f".{own.lower()}") for own in context.own_domains):
        return "allow"
    known = contact in start if context.known_contacts is None else name_of(contact) in context.known_contacts
    return "allow" if known else "new"
