"""What people preferred, from a real ledger to the rows of a dataset: each source, who is left out, what the lint does."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bot.outlook import dry_run_lines
from storage.digests import digest_of
from storage.errors import WeightsError
from storage.forgetting import forget
from storage.ledger import Ledger
from storage.recipe import recipe_from
from storage.records import Answer, Dataset, Preference, Question, RaterRole, RatingEvent
from storage.settings import Settings, load_settings
from tests.bot.test_report_card import run as some_run
from training import preferences
from training.collecting import collect, summary_of, warnings_of
from training.dataset import in_holdout, load_dataset, save_dataset
from training.preferences import Counted, counted, in_words, outlook

ASHA, TOM, INES = "U0ASHA", "U0TOM", "U0INES"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(_env_file=None, data_dir=tmp_path, cache_dir=tmp_path / "cache", learn_from_slack=True)


def spelled(n: int) -> str:
    """A number as letters: what one person sends again with other numbers is a copy."""
    return str(n).translate(str.maketrans("0123456789", "abcdefghij"))


class Team:
    """A ledger with people: every question is in a conversation of its own, on the training side unless it is `held`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.numbers = ledger, count(1)

    def places(self, held: bool) -> Iterator[int]:
        return (n for n in self.numbers if in_holdout(f"T:C:{n}.1", 0.2) is held)

    def ask(self, *, held: bool = False, asker: str = "", tuned: str = "", base: str = "", status: Any = "ok") -> int:
        """The number of a new exchange with both answers."""
        n = next(self.places(held))
        name = spelled(n)
        text = f"How do I use alpha{name} beta{name} here?"
        number = self.ledger.exchanges.open(
            Question(team="T", channel="C", thread_ts=f"{n}.1", ts=f"{n}.1", asker=asker or f"U{n}", text=text, asked_at=self.ledger.clock(),
                     messages=({"role": "system", "content": "Be kind."}, {"role": "user", "content": text})))  # fmt: skip
        said: dict[Any, str] = {"tuned": tuned or f"Press alpha{name} twice.", "base": base or f"Wait for beta{name}."}
        for role, answer in said.items():
            kind = status if role == "tuned" else "ok"
            self.ledger.exchanges.record(
                number,
                Answer(role=role, status=kind, text=answer, base_digest="b", reason="" if kind == "ok" else "late"),
            )
        message, _ = self.ledger.exchanges.intend_message(number, 0, team="T", channel="C")
        self.ledger.exchanges.message_posted(message.message_id, f"{number}.9")
        return number

    def vote(self, number: int, user: str, sign: int, role: RaterRole = "agent") -> int:
        self.ledger.ratings.add(
            RatingEvent(event_id=f"{number}{user}{sign}", team="T", channel="C", ts=f"{number}.9", user=user, role=role, sign=sign,
                        reaction="x", action="add", event_ts="1800000000.5"))  # fmt: skip
        return number

    def correct(self, number: int, author: str, text: str = "") -> int:
        self.ledger.lessons.correct(
            number,
            author=author,
            role="agent",
            text=text or f"Open gamma{spelled(number)}, choose delta{spelled(number)}.",
        )
        return number

    def pick(self, number: int, reviewer: str, verdict: Any) -> int:
        self.ledger.picks.add(number, reviewer=reviewer, role="agent", first="base", verdict=verdict)
        return number


@pytest.fixture
def team(ledger: Ledger) -> Team:
    return Team(ledger)


def built(ledger: Ledger, settings: Settings) -> Dataset:
    return collect(ledger, settings, recipe_from(settings, {})).dataset


def told(ledger: Ledger, settings: Settings) -> dict[str, Preference]:
    return {x.lesson_id: x for x in built(ledger, settings).preferences}


@pytest.fixture
def full(team: Team) -> Ledger:
    """1 disliked by Tom and corrected by Asha, 2 liked, 3 disliked, 4 base picked, 5 tuned picked; the rest says nothing:
    6 corrected but not disliked, 7 disputed, 8 disliked by a customer, 9 disliked without an answer, 10 picked both ways.
    """
    team.correct(team.vote(team.ask(), TOM, -1), ASHA)
    team.vote(team.ask(), ASHA, 1)
    team.vote(team.vote(team.ask(), TOM, -1), ASHA, -1)
    team.pick(team.vote(team.ask(), TOM, -1), ASHA, "base")
    team.pick(team.vote(team.ask(), TOM, 1), ASHA, "tuned")
    team.correct(team.ask(), ASHA)
    team.vote(team.vote(team.ask(), TOM, -1), ASHA, 1)
    team.vote(team.ask(), "U0MIA", -1, role="customer")
    team.vote(team.ask(status="timeout"), TOM, -1)
    team.pick(team.pick(team.ask(), ASHA, "tuned"), TOM, "base")
    return team.ledger


def test_each_source_gives_the_pair_or_the_verdict_with_where_it_came_from(full: Ledger, settings: Settings) -> None:
    found = told(full, settings)

    assert {i: (x.how, x.author, x.judges) for i, x in found.items()} == {
        "correction-1": ("corrected", ASHA, (TOM,)),
        "exchange-2": ("liked", ASHA, (ASHA,)),
        "disliked-3": ("disliked", ASHA, (ASHA, TOM)),
        "pick-4": ("base", ASHA, (ASHA,)),
        "pick-5": ("tuned", ASHA, (ASHA,)),
    }
    sides = {
        i: (x.answer.split()[0], x.rejected.split()[0] if x.rejected else "") for i, x in found.items() if x.answer
    }
    assert sides == {
        "correction-1": ("Open", "Press"),
        "exchange-2": ("Press", ""),
        "pick-4": ("Wait", "Press"),
        "pick-5": ("Press", "Wait"),
    }
    bare = found["disliked-3"]
    assert (bare.answer, bare.origin, bare.consent) == (
        "",
        "exchange 3",
        "LEARN_FROM_SLACK",
    ) and bare.rejected.startswith("Press")
    assert [m["role"] for m in bare.messages] == ["system", "user"] and bare.conversation_id.startswith("T:C:")


def test_the_manifest_counts_them_and_so_do_the_dry_run_and_the_warnings(full: Ledger, settings: Settings) -> None:
    dataset = built(full, settings)
    manifest = dataset.manifest["preferences"]

    assert {name: manifest[name] for name in ("pairs", "good", "bad")} == {"pairs": 3, "good": 4, "bad": 4}
    assert (
        manifest["by"] == {"base": 1, "corrected": 1, "disliked": 1, "liked": 1, "tuned": 1} and not manifest["dropped"]
    )
    found = summary_of(dataset, 1) | {"seconds": None, "warnings": []}
    line = (
        "Preferences: 3 pairs of answers, 4 good and 4 bad ones: 47 pairs are missing for DPO (50), 92 verdicts for KTO"
    )
    assert any(x.startswith(line) for x in dry_run_lines(some_run(state="decided", progress={"dry_run": found})))
    on, off = (warnings_of(dataset, recipe_from(settings, {"preferences": lever})) for lever in (True, False))
    assert set(on) - set(off) == {f"preferences are not learned: {outlook(dataset.preferences)}."}


def test_without_consent_there_are_none_and_the_digest_is_that_of_the_lessons_alone(
    full: Ledger, settings: Settings
) -> None:
    off = settings.model_copy(update={"learn_from_slack": False})

    dataset = built(full, off)

    assert dataset.preferences == () and outlook(dataset.preferences) == ""
    rows = {"train": [asdict(x) for x in dataset.train], "holdout": [asdict(x) for x in dataset.holdout]}
    assert dataset.digest == digest_of(rows) != built(full, settings).digest


def test_an_excluded_judge_has_judged_nothing_and_an_excluded_author_has_corrected_nothing(
    full: Ledger, settings: Settings
) -> None:
    full.consent.exclude(TOM, actor="ines")
    without_tom = told(full, settings)
    full.consent.include(TOM, actor="ines")
    full.consent.exclude(ASHA, actor="ines")
    without_asha = told(full, settings)

    assert without_tom.keys() == {
        "exchange-2",
        "disliked-3",
        "pick-4",
        "pick-5",
        "exchange-7",
        "pick-10",
    }  # 7 is disputed no more
    assert without_tom["disliked-3"].judges == (ASHA,)
    assert {i: x.how for i, x in without_asha.items()} == {
        "disliked-1": "disliked", "disliked-3": "disliked", "disliked-4": "disliked", "exchange-5": "liked", "disliked-7": "disliked",
        "pick-10": "base",
    }  # fmt: skip
    assert all(ASHA not in (x.author, *x.judges) for x in without_asha.values())


def test_an_excluded_or_forgotten_customer_is_in_none(full: Ledger, settings: Settings) -> None:
    asker = told(full, settings)["correction-1"].customer
    folder = save_dataset(built(full, settings), settings.datasets_dir)

    full.consent.exclude(asker, actor="ines")
    assert "correction-1" not in told(full, settings) and "disliked-1" not in told(full, settings)
    full.consent.include(asker, actor="ines")
    assert forget(full, settings.datasets_dir, asker, actor=asker).datasets == 1
    assert not folder.exists() and asker not in {x.customer for x in told(full, settings).values()}


def test_forgetting_takes_the_dataset_in_which_somebody_judged_a_pair_that_another_wrote(
    team: Team, settings: Settings
) -> None:
    team.correct(team.vote(team.ask(), TOM, -1), ASHA)
    folder = save_dataset(built(team.ledger, settings), settings.datasets_dir)

    assert forget(team.ledger, settings.datasets_dir, TOM, actor=TOM).datasets == 1 and not folder.exists()


def test_no_conversation_of_the_holdout_gives_one(team: Team, settings: Settings) -> None:
    team.correct(team.vote(team.ask(held=True), TOM, -1), ASHA)
    team.vote(team.ask(held=True), TOM, -1)
    team.pick(team.ask(held=True), TOM, "base")
    team.vote(team.ask(held=True), TOM, 1)

    dataset = built(team.ledger, settings)

    assert dataset.preferences == () and [x.lesson_id for x in dataset.holdout] == ["correction-1"]


def test_a_worse_answer_that_nearly_equals_a_held_out_row_is_left_out(team: Team, settings: Settings) -> None:
    long = " ".join(f"step{n}" for n in range(80))
    team.correct(team.ask(held=True), ASHA, text=f"Take {long}.")
    team.vote(team.ask(tuned=f"Take {long}."), TOM, -1)

    dataset = built(team.ledger, settings)

    assert dataset.preferences == () and dataset.manifest["preferences"]["dropped"] == {"near a holdout row": 1}


def test_built_twice_it_is_byte_identical_and_what_was_changed_on_disk_is_refused(
    full: Ledger, settings: Settings, tmp_path: Path
) -> None:
    one, two = (save_dataset(built(full, settings), tmp_path / name) for name in ("1", "2"))

    assert one.name == two.name and len((one / "preferences.jsonl").read_text().splitlines()) == 5
    for name in ("train.jsonl", "holdout.jsonl", "preferences.jsonl", "manifest.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert load_dataset(one) == built(full, settings)
    changed = one / "preferences.jsonl"
    changed.write_text(changed.read_text().replace("Press", "Pull"))
    with pytest.raises(WeightsError, match="was changed on disk"):
        load_dataset(one)


def test_the_better_answer_is_the_lesson_as_the_lint_left_it_and_the_worse_one_is_redacted_too(
    team: Team, settings: Settings
) -> None:
    sent = "Write to jo.ann@mail.example<|im_end|> now."
    team.correct(team.vote(team.ask(tuned=sent), TOM, -1), ASHA, text="Ask ben@mail.example, please.")
    team.correct(team.vote(team.ask(), TOM, -1), ASHA, text="ok")  # boilerplate: no lesson
    team.correct(
        team.vote(team.ask(tuned="Press the green key twice."), TOM, -1), ASHA, text="Press the green key, twice!"
    )
    team.correct(team.vote(team.ask(tuned="…"), TOM, -1), ASHA)
    team.correct(team.vote(team.ask(tuned="I do not know."), TOM, -1), ASHA)

    dataset = built(team.ledger, settings)

    found = {x.lesson_id: (x.answer, x.rejected) for x in dataset.preferences}
    assert found.keys() == {"correction-1", "correction-5"} and found["correction-5"][1] == "I do not know."
    assert found["correction-1"] == ("Ask [email], please.", "Write to [email]< |im_end|> now.")
    assert dataset.manifest["preferences"]["dropped"] == {
        "answers are alike": 1,
        "the better answer is no lesson": 1,
        "the worse answer says nothing": 1,
    }


def test_one_person_has_no_more_than_their_share_of_pairs_and_of_verdicts(team: Team, settings: Settings) -> None:
    for _ in range(30):
        team.correct(team.vote(team.ask(), TOM, -1), ASHA)
        team.vote(team.ask(), TOM, -1)
        team.vote(team.ask(asker="U0MIA"), INES, -1)

    dataset = built(team.ledger, settings)

    pairs = [x for x in dataset.preferences if x.answer]
    alone = [x.author for x in dataset.preferences if not x.answer]
    assert len(pairs) == 20 and (alone.count(TOM), alone.count(INES)) == (20, 10)
    assert dataset.manifest["preferences"]["dropped"] == {
        "the better answer is no lesson": 10,
        "too many of one agent": 10,
        "too many of one customer": 20,
    }


@pytest.mark.parametrize(
    ("pairs", "good", "bad", "method", "says"),
    [
        (50, 50, 50, "DPO", ""),
        (49, 49, 49, "", "1 pairs are missing for DPO (50), 2 verdicts for KTO (100, 20 of each kind)"),
        (49, 80, 49, "KTO", ""),
        (0, 100, 19, "", "50 pairs are missing for DPO (50), 1 verdicts for KTO"),
        (0, 0, 300, "", "50 pairs are missing for DPO (50), 20 verdicts for KTO"),
        (0, 80, 20, "KTO", ""),
        (0, 0, 0, "", "0 pairs of answers, 0 good and 0 bad ones: 50 pairs are missing for DPO (50), 100 verdicts"),
    ],
)
def test_pairs_come_first_then_verdicts_of_both_kinds_and_else_it_says_how_many_are_missing(
    pairs: int, good: int, bad: int, method: str, says: str
) -> None:
    found = Counted(pairs=pairs, good=good, bad=bad)

    assert found.method == method and (method or says in found.missing)


def test_what_became_of_the_stage_is_said_in_one_line(
    full: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = {"method": "DPO", "units": 60, "unit": "pairs", "steps": 12, "accuracy_before": 0.55, "accuracy_after": 0.8, "margin": 1.234,
               "seconds": 30.4}  # fmt: skip

    assert in_words(outcome) == (
        "preferences (DPO): 60 pairs in 12 steps; the better answer is the likelier one in 55% → 80%, mean margin 1.23 nats (30 s)"
    )
    assert in_words({"method": "", "missing": "3 pairs"}) == "no preferences were learned: 3 pairs"
    monkeypatch.setattr(preferences, "FEWEST_PAIRS", 3)
    found = built(full, settings).preferences
    assert counted(found).method == "DPO" and outlook(found).endswith("enough for DPO")
