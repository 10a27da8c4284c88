"""What a generated answer is about, told without a trained classifier: the topic whose approved answers it resembles.

Deterministic and cheap: TF-IDF vectors of the training answers, their mean for each topic, and the nearest mean by
cosine. It judges whether an answer is about the right thing, not whether it is right.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from eval.metrics import words
from storage.records import Lesson

NOTHING = ""  # the topic of an answer that shares no word with any lesson: counted as wrong


class Topics:
    """Topic centroids of the training answers. Source: Rocchio 1971; Manning et al. 2008, section 14.2."""

    def __init__(self, train: Sequence[Lesson]) -> None:
        """Raises ValueError with fewer than two topics: nothing can be told apart."""
        told = [lesson for lesson in train if lesson.category]
        self.names = sorted({lesson.category for lesson in told})
        if len(self.names) < 2:
            raise ValueError(f"topics need at least 2 categories among the lessons, not {len(self.names)}")
        self._vectors = TfidfVectorizer(analyzer=words, sublinear_tf=True)
        rows = self._vectors.fit_transform([lesson.answer for lesson in told])
        of = np.array([self.names.index(lesson.category) for lesson in told])
        means = np.stack([np.asarray(rows[of == k].mean(axis=0)).ravel() for k in range(len(self.names))])
        self._centroids = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)

    def of(self, answers: Sequence[str]) -> list[str]:
        """The nearest topic of each answer; equally near ones go to the first name."""
        nearness = np.asarray(self._vectors.transform(list(answers)) @ self._centroids.T)
        return [self.names[int(row.argmax())] if row.max() > 0 else NOTHING for row in nearness]


def has_topics(train: Sequence[Lesson], holdout: Sequence[Lesson]) -> bool:
    """Whether topics can be told at all: two in training, and holdout lessons of a known one."""
    known = {lesson.category for lesson in train if lesson.category}
    return len(known) >= 2 and sum(lesson.category in known for lesson in holdout) >= 2
