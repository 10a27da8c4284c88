"""General prompts answered by the base itself: replay that asks the model to stay what it was, not to become somebody.

Promise: a base answers a prompt once; its answers are kept under its digest. Source: replay of a model's own samples
loses less than other people's answers do, SDFT, arXiv 2402.13669.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bot.engine.model import LoadedModel
from storage.digests import digest_of
from storage.records import Lesson
from storage.weights import write_whole

LONGEST = 160  # tokens of an answer; one that does not end by then is left out


def in_own_words(
    lessons: Sequence[Lesson], base: Path, folder: Path, *, alive: Callable[[], None] = lambda: None
) -> tuple[Lesson, ...]:
    """The lessons, each general row with the base's own greedy answer; those that it does not bring to an end are left out.

    `folder`/<base digest>.json keeps the answers, those that did not end as "". `alive` hears of every batch.
    """
    asked = {digest_of(list(lesson.messages)): lesson for lesson in lessons if lesson.source == "replay"}
    model = LoadedModel.load(base)
    kept = folder / f"{model.base_digest}.json"
    answers = read(kept)
    missing = [key for key in asked if key not in answers]
    if missing:
        prompts = [model.renderer.prompt(asked[key].messages) for key in missing]
        said = model.generate(prompts, adapter=None, max_new_tokens=LONGEST, tell=lambda *_: alive())
        answers |= {key: g.text.strip() if g.finished else "" for key, g in zip(missing, said, strict=True)}
        write(kept, answers)
    own = (replace(x, answer=answers[digest_of(list(x.messages))]) if x.source == "replay" else x for x in lessons)
    return tuple(lesson for lesson in own if lesson.answer)


def read(path: Path) -> dict[str, str]:
    """The answers by prompt that are kept; a file that is not there or not whole holds none."""
    try:
        return {str(key): str(text) for key, text in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def write(path: Path, answers: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(answers, ensure_ascii=False, sort_keys=True).encode())
