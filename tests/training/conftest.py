"""The tiny real base that the other rooms' tests use, too."""

from tests.eval.conftest import tiny_folder

__all__ = ["tiny_folder"]
