"""What only a loaded base can say about lessons: how many tokens they are, and how likely it finds their answers.

Knows one model. Only `evenkeel data lint --with-base` asks; a run's lint works without.
"""

from collections.abc import Callable, Sequence

from bot.engine.model import LoadedModel
from storage.records import Lesson

CHUNK = 64  # lessons between two words of progress


def tokens_of(model: LoadedModel, lesson: Lesson) -> int:
    """A lesson's length as it is trained."""
    return len(model.renderer.example(lesson.messages, lesson.answer)[0])


def answer_log_probs(
    model: LoadedModel, lessons: Sequence[Lesson], tell: Callable[[int, int], None]
) -> dict[str, Sequence[float]]:
    """By lesson, log p of each token of its answer (end token included) under the base, in nats.

    A lesson longer than the model's context is left out: it cannot be read whole.
    """
    rendered = [(lesson.lesson_id, *model.renderer.example(lesson.messages, lesson.answer)) for lesson in lessons]
    fitting = sorted((x for x in rendered if len(x[1]) <= model.context), key=lambda x: len(x[1]))
    found: dict[str, Sequence[float]] = {}
    for start in range(0, len(fitting), CHUNK):
        chunk = fitting[start : start + CHUNK]
        rows = model.log_probs([ids for _, ids, _ in chunk], adapter=None)
        for (name, _, mask), values in zip(chunk, rows, strict=True):
            found[name] = [float(value) for value, said in zip(values, mask[1:], strict=True) if said]
        tell(min(start + CHUNK, len(fitting)), len(fitting))
    return found
