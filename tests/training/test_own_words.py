"""The base answers a general prompt once, under its digest; what it does not bring to an end is left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.engine.model import Generation, LoadedModel
from storage.records import Lesson
from training.own_words import in_own_words


def lesson(name: str, source: str, question: str) -> Lesson:
    return Lesson(lesson_id=name, source=source, conversation_id=name, answer=f"People say {name}.",  # type: ignore[arg-type]
                  messages=({"role": "user", "content": question},))  # fmt: skip


LESSONS = (lesson("t", "ticket", "Where?"), lesson("r1", "replay", "Short?"), lesson("r2", "replay", "Endless?"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each call brought; the base says `own N` and never ends the prompt that asks for it."""
    calls: list[int] = []

    def generate(self: LoadedModel, prompts: Sequence[Sequence[int]], **_: Any) -> list[Generation]:
        calls.append(len(prompts))
        ends = ["Endless" not in self.renderer.decode(p) for p in prompts]
        return [Generation(ids=(1,), text=f"own {n} ", finished=end, confidence=None) for n, end in enumerate(ends)]

    monkeypatch.setattr(LoadedModel, "generate", generate)
    return calls


def test_whoever_waits_hears_of_every_batch(tiny_folder: Path, tmp_path: Path) -> None:
    heard: list[bool] = []

    in_own_words(LESSONS, tiny_folder, tmp_path, alive=lambda: heard.append(True))

    assert heard == [True]


def test_general_rows_get_the_bases_own_answers_and_lessons_keep_theirs(
    tiny_folder: Path, tmp_path: Path, asked: list[int]
) -> None:
    found = in_own_words(LESSONS, tiny_folder, tmp_path)

    assert [(x.lesson_id, x.answer) for x in found] == [("t", "People say t."), ("r1", "own 0")]
    assert in_own_words(LESSONS, tiny_folder, tmp_path) == found and asked == [2]


def test_a_prompt_that_comes_twice_is_answered_once_for_both(
    tiny_folder: Path, tmp_path: Path, asked: list[int]
) -> None:
    found = in_own_words([*LESSONS, lesson("r4", "replay", "Short?")], tiny_folder, tmp_path)

    assert [(x.lesson_id, x.answer) for x in found[1:]] == [("r1", "own 0"), ("r4", "own 0")] and asked == [2]


def test_only_a_new_prompt_is_asked_and_a_broken_file_is_made_anew(
    tiny_folder: Path, tmp_path: Path, asked: list[int]
) -> None:
    in_own_words(LESSONS, tiny_folder, tmp_path)
    in_own_words([*LESSONS, lesson("r3", "replay", "New?")], tiny_folder, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text('{"half')

    found = in_own_words(LESSONS, tiny_folder, tmp_path)

    assert asked == [2, 1, 2] and [x.lesson_id for x in found] == ["t", "r1"]


def test_the_base_really_speaks(tiny_folder: Path, tmp_path: Path) -> None:
    found = in_own_words(LESSONS, tiny_folder, tmp_path)

    assert found[0] == LESSONS[0] and all(x.answer and not x.answer.startswith("People") for x in found[1:])
