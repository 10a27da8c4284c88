"""The tiny real base and the lessons that the other rooms' tests use, too; a desk at a scripted tuning server."""

from tests.eval.conftest import lessons, tiny_folder, tiny_model
from tests.training.tuning_desk import desk, to_learn

__all__ = ["desk", "lessons", "tiny_folder", "tiny_model", "to_learn"]
