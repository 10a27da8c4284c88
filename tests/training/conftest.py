"""The tiny real base and the lessons that the other rooms' tests use, too."""

from tests.eval.conftest import lessons, tiny_folder, tiny_model

__all__ = ["lessons", "tiny_folder", "tiny_model"]
