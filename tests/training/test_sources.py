"""Who may teach: consent, exclusions and forgotten people, from a real ledger to the rows of a dataset."""

import json
from pathlib import Path
from typing import Any

import pytest

from storage.forgetting import forget
from storage.ledger import Ledger
from storage.recipe import recipe_from
from storage.records import Answer, Question, RatingEvent, Ticket
from storage.settings import Settings, load_settings
from training.collecting import collect
from training.dataset import save_dataset
from training.sources import Gathered, gather

ASHA, TOM, MIA = "U0ASHA", "U0TOM", "U0MIA"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(_env_file=None, data_dir=tmp_path, cache_dir=tmp_path / "cache", learn_from_slack=True)


def ask(ledger: Ledger, ts: str, *, asker: str = MIA, thread: str = "", before: tuple[dict[str, str], ...] = ()) -> int:
    """A question number `ts` with both answers, posted."""
    text = f"How do I do thing {ts} in room {ts}?"
    messages = ({"role": "system", "content": "Be kind."}, *before, {"role": "user", "content": text})
    number = ledger.exchanges.open(
        Question(team="T", channel="C", thread_ts=thread or ts, ts=ts, asker=asker, text=text, messages=messages,
                 asked_at=ledger.clock(), language="en")
    )  # fmt: skip
    for role in ("tuned", "base"):
        ledger.exchanges.record(
            number, Answer(role=role, status="ok", text=f"The {role} says press {ts} twice.", base_digest="b" * 64)
        )
    message, _ = ledger.exchanges.intend_message(number, 0, team="T", channel="C")
    ledger.exchanges.message_posted(message.message_id, f"{ts}9")
    return number


def like(ledger: Ledger, ts: str, user: str) -> None:
    ledger.ratings.add(
        RatingEvent(event_id=f"{ts}{user}", team="T", channel="C", ts=f"{ts}9", user=user, reaction="+1", sign=1, action="add",
                    event_ts="1800000000.5", role="agent")
    )  # fmt: skip


def teach(ledger: Ledger, ts: str, *, asker: str = MIA, author: str = TOM, teacher: str = ASHA) -> None:
    ledger.taught.teach(team="T", channel="C", thread_ts=ts, ts=f"{ts}5", question=f"What is thing {ts}?", answer=f"It is number {ts}.",
                        language="en", asker=asker, author=author, teacher=teacher, role="agent")  # fmt: skip


def tickets(ledger: Ledger, *rows: dict[str, Any]) -> None:
    ledger.lessons.import_tickets(
        [Ticket(**{"question": f"Ticket {r['ticket_id']}, how?", "answer": f"Like {r['ticket_id']}.", "conversation_id": "c", **r}) for r in rows],
        file="t.csv", file_digest="d", columns={}, actor="ines",
    )  # fmt: skip


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    """One lesson of each source: corrected 1.1, liked 1.2 by two agents, taught 1.3, base picked in 1.4, ticket A by k1."""
    ledger.lessons.correct(ask(ledger, "1.1"), author=ASHA, role="agent", text="Better: press 1.1 once.")
    ask(ledger, "1.2")
    like(ledger, "1.2", ASHA)
    like(ledger, "1.2", TOM)
    teach(ledger, "1.3")
    ledger.picks.add(ask(ledger, "1.4", asker="U0JONAS"), reviewer=TOM, role="agent", first="tuned", verdict="base")
    tickets(ledger, {"ticket_id": "A", "customer": "k1", "agent": "a1", "row": "row 1", "created_at": "2026-03-01"})
    return ledger


def ids(found: Gathered) -> set[str]:
    return {lesson.lesson_id for lesson in found.lessons}


def test_every_lesson_says_who_and_what_it_came_from_and_why_it_may_be_learned(
    full: Ledger, settings: Settings
) -> None:
    found = {x.source: x for x in gather(full, settings).lessons}

    assert found.keys() == {"correction", "rating", "taught", "pick", "ticket"}
    said = {s: (x.author, x.customer, x.origin, x.consent) for s, x in found.items()}
    assert said == {
        "correction": (ASHA, MIA, "exchange 1", "LEARN_FROM_SLACK"),
        "rating": (ASHA, MIA, "exchange 2", "LEARN_FROM_SLACK"),
        "taught": (ASHA, MIA, f"reply 1.35 in C by {TOM}", "LEARN_FROM_SLACK"),
        "pick": (TOM, "U0JONAS", "exchange 3", "LEARN_FROM_SLACK"),
        "ticket": ("a1", "k1", "t.csv row 1", "imported by ines"),
    }
    assert found["pick"].answer == "The base says press 1.4 twice."
    assert found["ticket"].began == "2026-03-01" and found["rating"].began.startswith("1970-01-01")
    assert found["rating"].at.startswith("2027-01-15")


def test_without_consent_nothing_of_slack_is_learned_and_the_manifest_says_how_much(
    full: Ledger, settings: Settings
) -> None:
    off = settings.model_copy(update={"learn_from_slack": False})

    found = gather(full, off)

    assert ids(found) == {"ticket-A"} and found.left_out == {"no consent (LEARN_FROM_SLACK is off)": 4}


@pytest.mark.parametrize(
    ("person", "gone"),
    [
        (ASHA, {"correction-1", "taught-1"}),
        (TOM, {"taught-1", "pick-3"}),
        (MIA, {"correction-1", "exchange-2", "taught-1"}),
        ("U0JONAS", {"pick-3"}),
        ("k1", {"ticket-A"}),
        ("a1", {"ticket-A"}),
    ],
)
def test_an_excluded_person_is_in_no_row_of_the_next_dataset_until_it_is_undone(
    full: Ledger, settings: Settings, tmp_path: Path, person: str, gone: set[str]
) -> None:
    everything = ids(gather(full, settings))
    assert full.consent.exclude(person, actor="ines") and not full.consent.exclude(person, actor="ines")

    found = gather(full, settings)

    assert everything - ids(found) == gone and found.left_out == {"excluded person": len(gone)}
    dataset = collect(full, settings, recipe_from(settings, {})).dataset
    assert dataset.manifest["dropped"]["excluded person"] == len(gone)
    folder = save_dataset(dataset, tmp_path / "datasets")
    rows = "".join(path.read_text() for path in folder.glob("*.jsonl"))
    assert all(f'"{person}"' not in line for line in rows.splitlines())
    (standing,) = full.consent.exclusions()
    assert (standing.person, standing.actor) == (person, "ines")
    assert full.consent.include(person, actor="ines") and ids(gather(full, settings)) == everything


def test_with_a_rater_excluded_the_verdict_of_the_others_counts(full: Ledger, settings: Settings) -> None:
    full.consent.exclude(ASHA, actor="ines")

    (liked,) = (x for x in gather(full, settings).lessons if x.source == "rating")

    assert liked.author == TOM


def test_the_words_of_an_excluded_customer_are_no_context_either(ledger: Ledger, settings: Settings) -> None:
    ask(ledger, "2.1", asker="U0EVA")
    before = ({"role": "user", "content": "Eva's secret words"}, {"role": "assistant", "content": "Well."})
    ledger.lessons.correct(
        ask(ledger, "2.2", thread="2.1", before=before), author=ASHA, role="agent", text="Press it once."
    )
    tickets(ledger, {"ticket_id": "A", "customer": "U0EVA"}, {"ticket_id": "B", "customer": "k2"})
    assert "secret words" in str(gather(ledger, settings).lessons)

    ledger.consent.exclude("U0EVA", actor="ines")

    found = {x.lesson_id: x for x in gather(ledger, settings).lessons}
    assert [m["role"] for m in found["correction-1"].messages] == ["system", "user"]
    assert [m["role"] for m in found["ticket-B"].messages] == ["system", "user"]


def test_picks_are_lessons_only_where_agents_agree_and_nobody_objects(ledger: Ledger, settings: Settings) -> None:
    def picked(ts: str, *verdicts: str, role: str = "agent") -> int:
        number = ask(ledger, ts)
        for reviewer, verdict in enumerate(verdicts):
            ledger.picks.add(number, reviewer=f"R{reviewer}", role=role, first="tuned", verdict=verdict)  # type: ignore[arg-type]
        return number

    agreed = picked("3.1", "tuned", "skip")
    picked("3.2", "tuned", "base")
    picked("3.3", "both")
    picked("3.4", "base", role="customer")
    ledger.lessons.correct(picked("3.5", "base"), author=ASHA, role="agent", text="Mine.")

    assert [x.lesson_id for x in ledger.picks.lessons()] == [f"pick-{agreed}"]


def test_a_known_conversation_keeps_its_side_when_the_ledger_learns_its_date(tmp_path: Path, ledger: Ledger) -> None:
    tickets(ledger, {"ticket_id": "A", "created_at": "2026-03-10"})
    tickets(ledger, {"ticket_id": "B", "created_at": "2026-02-01"})

    assert {t.began for t in ledger.lessons.tickets()} == {"2026-03-10"}


def test_a_ticket_that_is_imported_again_with_another_answer_is_replaced_and_like_numbers_are_not(
    ledger: Ledger, settings: Settings
) -> None:
    tickets(ledger, {"ticket_id": "7", "question": "How long?", "answer": "One day, they say."})
    tickets(ledger, {"ticket_id": "7", "question": "How long?", "answer": "Two days, they say."})
    tickets(
        ledger, {"ticket_id": "7", "question": "How wide?", "answer": "One metre, they say.", "conversation_id": "d"}
    )

    found = gather(ledger, settings)

    assert {x.lesson_id: x.answer for x in found.lessons} == {
        "ticket-7": "Two days, they say.",
        "ticket-7~2": "One metre, they say.",
    }
    assert found.left_out == {"replaced by a later import": 1}
    assert len(collect(ledger, settings, recipe_from(settings, {})).dataset.manifest["lint"]) == 0


def test_forgetting_takes_tickets_and_the_datasets_that_a_person_judged(full: Ledger, settings: Settings) -> None:
    def built() -> Path:
        return save_dataset(collect(full, settings, recipe_from(settings, {})).dataset, settings.datasets_dir)

    folder = built()
    receipt = forget(full, settings.datasets_dir, "k1", actor="ines")
    assert (receipt.tickets, receipt.datasets) == (1, 1) and not folder.exists()

    folder = built()
    assert forget(full, settings.datasets_dir, TOM, actor=TOM).datasets == 1 and not folder.exists()
    assert json.dumps([x.author for x in gather(full, settings).lessons]).count(TOM) == 0
