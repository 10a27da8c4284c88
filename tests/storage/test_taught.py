"""What agents taught and corrected: the newest that stands counts, what was taken back is gone, reasons need their 👎."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.ledger import Ledger
from storage.outlook import look_ahead
from storage.records import Answer, Question, RaterRole, RatingEvent

_numbers = count(1)
ROLES: dict[str, RaterRole] = {"U0ASHA": "agent", "U0TOM": "agent", "U0INES": "admin", "U0MIA": "customer"}


class Ticking:
    """A clock that moves on by a second at every look."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "evenkeel.db", clock=Ticking())
    yield opened
    opened.close()


def answered(ledger: Ledger) -> int:
    """An answered question, its answer posted in one message."""
    ts = f"{next(_numbers)}.5"
    number = ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts=ts, ts=ts, asker="U0MIA", text="How?", language="en",
                 messages=({"role": "user", "content": "How?"},), asked_at=ledger.clock()))  # fmt: skip
    ledger.exchanges.record(number, Answer(role="tuned", status="ok", text="So.", base_digest="b"))
    message, _ = ledger.exchanges.intend_message(number, 1, team="T", channel="C")
    ledger.exchanges.message_posted(message.message_id, f"{number}.9")
    return number


def vote(ledger: Ledger, number: int, user: str, sign: int, *, emoji: str = "", on: bool = True) -> None:
    n, name = next(_numbers), emoji or ("+1" if sign > 0 else "-1")
    ledger.ratings.add(
        RatingEvent(event_id=f"v{n}", team="T", channel="C", ts=f"{number}.9", user=user, reaction=name, sign=sign,
                    action="add" if on else "remove", event_ts=f"{n}.0", role=ROLES[user]))  # fmt: skip


def correct(ledger: Ledger, number: int, text: str, *, by: str = "U0ASHA") -> int:
    return ledger.lessons.correct(number, author=by, role=ROLES[by], text=text)


def teach(ledger: Ledger, answer: str, *, ts: str = "7.2", by: str = "U0ASHA", language: str | None = "en") -> int:
    return ledger.taught.teach(
        team="T", channel="C", thread_ts="7.1", ts=ts, question="Where?", answer=answer, language=language,
        asker="U0MIA", author="U0TOM", teacher=by, role=ROLES[by])  # fmt: skip


def taught(ledger: Ledger) -> list[str]:
    return [lesson.answer for lesson in ledger.taught.lessons("Be kind.")]


def corrections(ledger: Ledger) -> list[str]:
    return [lesson.answer for lesson in ledger.lessons.corrections()]


# Taught replies


def test_a_taught_reply_is_a_lesson_of_its_thread_told_as_it_will_be_served(ledger: Ledger) -> None:
    number = teach(ledger, "There.")

    (lesson,) = ledger.taught.lessons("Be kind.")
    assert (lesson.lesson_id, lesson.source, lesson.author) == (f"taught-{number}", "taught", "U0ASHA")
    assert lesson.conversation_id == "T:C:7.1" and lesson.language == "en"
    assert lesson.messages == (
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where?"},
    )


def test_a_language_that_nobody_could_tell_is_no_language(ledger: Ledger) -> None:
    teach(ledger, "There.", language=None)
    assert ledger.taught.lessons("")[0].language == ""


def test_the_same_reply_taught_again_is_one_lesson_and_another_reply_a_second(ledger: Ledger) -> None:
    teach(ledger, "There.")
    teach(ledger, "Here.", by="U0INES")
    teach(ledger, "Everywhere.", ts="7.3")

    assert taught(ledger) == ["Here.", "Everywhere."]
    assert ledger.verify() == ()


def test_a_taught_reply_is_taken_back_by_its_teacher_only_and_only_once(ledger: Ledger) -> None:
    number = teach(ledger, "There.")

    assert not ledger.taught.take_back("taught", number, by="U0TOM")
    assert not ledger.taught.take_back("taught", number + 1, by="U0ASHA")
    assert not ledger.taught.take_back("correction", number, by="U0ASHA")
    assert taught(ledger) == ["There."]
    assert ledger.taught.take_back("taught", number, by="U0ASHA")
    assert not ledger.taught.take_back("taught", number, by="U0ASHA")
    assert taught(ledger) == [] and look_ahead(ledger.connections).total["taught"] == 0


def test_what_was_taken_back_can_be_taught_again(ledger: Ledger) -> None:
    ledger.taught.take_back("taught", teach(ledger, "There."), by="U0ASHA")
    teach(ledger, "There, now.")

    assert taught(ledger) == ["There, now."]


def test_what_a_customer_wrote_is_no_lesson_though_it_were_stored(ledger: Ledger) -> None:
    teach(ledger, "Nowhere.", by="U0MIA")
    correct(ledger, answered(ledger), "Never.", by="U0MIA")

    assert taught(ledger) == [] and corrections(ledger) == []
    assert ledger.lessons.count_since_last_run(with_slack=True) == 0


# Corrections


def test_what_was_taken_back_leaves_every_count_and_lets_the_one_before_it_stand_again(ledger: Ledger) -> None:
    number = answered(ledger)
    correct(ledger, number, "Tom's.", by="U0TOM")
    mine = correct(ledger, number, "Asha's.")
    assert corrections(ledger) == ["Asha's."] and ledger.lessons.count_since_last_run(with_slack=True) == 1

    assert ledger.taught.take_back("correction", mine, by="U0ASHA")

    assert corrections(ledger) == ["Tom's."] and ledger.lessons.count_since_last_run(with_slack=True) == 1
    facts = look_ahead(ledger.connections)
    assert facts.total["corrections"] == 1 and facts.busiest == ("U0TOM", 1)


def test_a_liked_answer_is_a_lesson_again_once_its_correction_is_taken_back(ledger: Ledger) -> None:
    number = answered(ledger)
    vote(ledger, number, "U0TOM", 1)
    written = correct(ledger, number, "Better.")
    assert ledger.lessons.liked() == ()

    ledger.taught.take_back("correction", written, by="U0ASHA")

    assert [lesson.answer for lesson in ledger.lessons.liked()] == ["So."]
    assert look_ahead(ledger.connections).total["likes"] == 1


STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(ROLES)), st.integers(0, 2), st.booleans()), max_size=14
)  # (who, which answer, writes or takes back)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_whatever_is_written_and_taken_back_the_newest_that_stands_counts(steps: list[tuple[str, int, bool]]) -> None:
    with TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "evenkeel.db", clock=Ticking())
        places = [answered(ledger) for _ in range(3)]
        stands: list[list[tuple[str, str]]] = [[], [], []]
        newest: dict[tuple[str, int], int] = {}
        for step, (who, place, writes) in enumerate(steps):
            if writes:
                newest[who, place] = correct(ledger, places[place], f"{step}", by=who)
                stands[place].append((who, f"{step}"))
            elif (who, place) in newest:
                was = any(author == who for author, _ in stands[place])
                assert ledger.taught.take_back("correction", newest[who, place], by=who) is was
                stands[place] = [(author, text) for author, text in stands[place] if author != who]
        trusted = [[text for who, text in place if ROLES[who] != "customer"][-1:] for place in stands]

        assert sorted(corrections(ledger)) == sorted(text for place in trusted for text in place)
        assert look_ahead(ledger.connections).total["corrections"] == len(corrections(ledger))
        ledger.close()


# A person's own


def test_what_somebody_wrote_is_listed_newest_first_with_what_became_of_it(ledger: Ledger) -> None:
    number = answered(ledger)
    correct(ledger, number, "First.")
    correct(ledger, number, "Second.")
    teach(ledger, "There.")
    gone = correct(ledger, answered(ledger), "Wrong.")
    ledger.taught.take_back("correction", gone, by="U0ASHA")
    correct(ledger, number, "Not mine.", by="U0MIA")

    mine = ledger.taught.of_author("U0ASHA")

    assert [(one.kind, one.text, one.removed, one.replaced) for one in mine] == [
        ("correction", "Wrong.", True, False),
        ("taught", "There.", False, False),
        ("correction", "Second.", False, False),
        ("correction", "First.", False, True),
    ]
    assert [one.text for one in ledger.taught.of_author("U0ASHA", limit=1)] == ["Wrong."]
    assert ledger.taught.of_author("U0INES") == ()


def test_a_reply_that_another_teaches_anew_is_listed_as_replaced(ledger: Ledger) -> None:
    teach(ledger, "There.")
    teach(ledger, "Here.", by="U0INES")

    assert [one.replaced for one in ledger.taught.of_author("U0ASHA")] == [True]
    assert [one.replaced for one in ledger.taught.of_author("U0INES")] == [False]


# Reasons and votes


def test_a_reason_counts_while_its_thumb_stands_and_again_when_it_is_back(ledger: Ledger) -> None:
    number = answered(ledger)
    vote(ledger, number, "U0MIA", -1)
    ledger.taught.give_reason(number, user="U0MIA", role="customer", reason="wrong")
    ledger.taught.give_reason(number, user="U0MIA", role="customer", reason="tone")
    ledger.taught.give_reason(number, user="U0TOM", role="agent", reason="wrong")  # no thumb of his
    assert ledger.taught.reasons() == {"tone": 1}

    vote(ledger, number, "U0MIA", -1, on=False)
    assert ledger.taught.reasons() == {}
    vote(ledger, number, "U0MIA", -1)
    assert ledger.taught.reasons() == {"tone": 1}


def test_a_reason_for_an_answer_that_was_forgotten_meanwhile_leaves_nothing(ledger: Ledger) -> None:
    ledger.taught.give_reason(999, user="U0MIA", role="customer", reason="wrong")
    assert ledger.taught.reasons() == {} and ledger.verify() == ()


def test_two_thumbs_of_one_person_are_one_reason(ledger: Ledger) -> None:
    number = answered(ledger)
    for emoji in ("-1", "feedback:down"):
        vote(ledger, number, "U0MIA", -1, emoji=emoji)
    ledger.taught.give_reason(number, user="U0MIA", role="customer", reason="outdated")

    assert ledger.taught.reasons() == {"outdated": 1}


def test_a_split_counts_each_agent_once_and_no_customer(ledger: Ledger) -> None:
    number = answered(ledger)
    assert ledger.ratings.split(number) == (0, 0)
    for user, sign in (("U0ASHA", 1), ("U0INES", 1), ("U0TOM", -1), ("U0MIA", -1)):
        vote(ledger, number, user, sign)
    vote(ledger, number, "U0ASHA", 1, emoji="feedback:up")
    assert ledger.ratings.split(number) == (2, 1)

    vote(ledger, number, "U0TOM", 1)  # and his 👎 stands, too
    assert ledger.ratings.split(number) == (2, 0)
