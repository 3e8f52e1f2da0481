"""`zebra models`: list the models that people use, and which of them open."""

from collections.abc import Callable

from zebra.config.models import ModelsConfig, ModelTask
from zebra.pretrained.known_models import KnownModel, list_known_models

FILTERS: dict[ModelTask, Callable[[KnownModel], bool]] = {
    "classify": lambda model: model.imagenet is not None,
    "search": lambda model: model.coco is not None,
    "multilingual": lambda model: model.languages != "en",
    "small": lambda model: model.compute is not None and model.compute <= 1,
}
"""Which models suit a task."""


def run(config: ModelsConfig) -> list[KnownModel]:
    """Return the known models.

    Without a task: all, first those that open, by accuracy on ImageNet. With a task: those that open and suit it, best
    first; models without a score come last.
    """
    models = list(list_known_models())
    if config.task is not None:
        suits = FILTERS[config.task]
        models = [model for model in models if not model.refused and suits(model)]
    return sorted(models, key=lambda model: (bool(model.refused), -_score(model, config.task), model.name))


def _score(model: KnownModel, task: ModelTask | None) -> float:
    """Return the score that orders the list, in percent; 0 if there is none."""
    return (model.coco if task == "search" else model.imagenet) or 0.0
