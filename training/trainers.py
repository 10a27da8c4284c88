"""Who trains a run's candidate: a child process here, or the server that has the hosted base.

Knows which step of a child does it. How it is done is in training/lora.py and training/hosted.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from storage.recipe import Recipe
from storage.settings import Settings
from training.hosted import for_hosting


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """`tune` and `cancel` are steps of a child; without `cancel`, all work ends with its child. `fit`: the recipe as this
    trainer can follow it, and a sentence for each thing that it cannot do.
    """

    tune: str
    cancel: str
    fit: Callable[[Recipe], tuple[Recipe, tuple[str, ...]]]


HERE = Trainer(tune="tune", cancel="", fit=lambda recipe: (recipe, ()))
HOSTED = Trainer(tune="tune_hosted", cancel="cancel_hosted", fit=for_hosting)


def trainer_of(settings: Settings) -> Trainer:
    return HOSTED if settings.is_hosted else HERE
