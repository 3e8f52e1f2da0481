"""The task `zebra probe`: learn a classifier from examples."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import zebra
from zebra.config.probe import ProbeConfig
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.ignored import Ignored
from zebra.errors import DataError, MissingSplit, list_names
from zebra.evaluators.classifier import (
    NUM_FOLDS,
    Calibration,
    ExampleVectors,
    LearnedClassifier,
    embed_examples,
    learn_classifier,
)
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.read_counter import ReadCounter
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.classifier import require_classifier_folder, save_classifier
from zebra.pretrained.load import load
from zebra.protocols.calibration import ACCEPTANCE
from zebra.values import Embeddings, Score


@dataclass(frozen=True, slots=True)
class ClassQuality:
    """A class of a classifier."""

    name: str
    num_images: int
    accuracy: Score | None
    """Share of its held-out images that are recognized; None for a class with one image."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A learned classifier, and its quality on held-out images."""

    out: Path
    classes: tuple[ClassQuality, ...]
    accuracy: Score
    calibration: Calibration
    skipped: tuple[Ignored, ...]
    """Images that could not be used, by reason."""
    notes: tuple[str, ...]


def run(config: ProbeConfig, callback: Callable[[int, int], None] = lambda _done, _total: None) -> ProbeResult:
    """Learn a classifier and write it to `config.out`.

    Args:
        callback: Called with the number of images read, and their total.

    Raises:
        ConfigError: There is something other than a classifier at `config.out`.
        DataError: The data has no labels, fewer than two classes, or no class with two usable images.
        WeightsError: The model is incomplete or damaged.
    """
    out = Path(config.out)
    require_classifier_folder(out)
    benchmark = load_examples(config.data, config.data_root)
    clip = load(config.model, device=config.device)
    examples = embed_examples(clip, ReadCounter(benchmark.source, callback))
    classnames, examples = _select_classes(benchmark, examples)
    learned = learn_classifier(examples, len(classnames), config.seed)
    counts = np.bincount(examples.labels, minlength=len(classnames)).tolist()
    classes = tuple(ClassQuality(*entry) for entry in zip(classnames, counts, learned.class_accuracies, strict=True))
    _save(out, clip, benchmark, learned, classes, examples.skipped)
    single = [quality.name for quality in classes if quality.num_images == 1]
    notes = [f"classes with one image, whose accuracy is unknown: {list_names(single)}"] if single else []
    return ProbeResult(
        out, classes, learned.accuracy, learned.calibration, examples.skipped, (*benchmark.notes, *notes)
    )


def load_examples(name: str, data_root: str | None = None) -> ClassificationBenchmark:
    """Load the training split of a labeled dataset; the test split, or a dataset without splits, if there is none.

    Raises:
        DataError: There is no such dataset, or its images have no labels or several.
    """
    try:
        benchmark = load_dataset(name, "train", data_root)
    except MissingSplit:
        benchmark = load_dataset(name, "test", data_root)
    if not isinstance(benchmark, ClassificationBenchmark):
        raise DataError(
            f"the images of {name} do not have one label each. Give a folder with a folder of images per class, or a "
            "table with a column of labels"
        )
    return benchmark


def _select_classes(
    benchmark: ClassificationBenchmark, examples: ExampleVectors
) -> tuple[tuple[str, ...], ExampleVectors]:
    """Return the names of the classes that have images, and the examples with labels of these classes.

    Raises:
        DataError: There are fewer than two such classes, or none has two images.
    """
    present, label_N, counts = np.unique(examples.labels, return_inverse=True, return_counts=True)
    names = tuple(benchmark.classnames[index] for index in present.tolist())
    if len(names) < 2:
        raise DataError(
            f"{benchmark.source.name} has usable images of one class only, {names[0]!r}. A classifier needs at least "
            "two: put images of something else into a folder beside it"
        )
    if counts.max() < 2:
        raise DataError(
            f"{benchmark.source.name} has one usable image per class. Add images: at least one class needs two, and "
            "each should have several"
        )

    def relabel(embeddings: Embeddings) -> Embeddings:
        return replace(embeddings, labels=label_N.astype(np.int64))

    return names, replace(examples, features=relabel(examples.features), vectors=relabel(examples.vectors))


def _save(
    out: Path,
    clip: Bundle,
    benchmark: ClassificationBenchmark,
    learned: LearnedClassifier,
    classes: tuple[ClassQuality, ...],
    skipped: tuple[Ignored, ...],
) -> None:
    calibration = asdict(learned.calibration)
    save_classifier(
        out,
        [quality.name for quality in classes],
        learned.head,
        learned.class_CE,
        temperature=calibration.pop("temperature"),
        threshold=calibration.pop("threshold"),
        fingerprint=clip.fingerprint,
        metadata={
            "zebra": zebra.__version__,
            "preprocess": asdict(clip.preprocess),
            "data": {"name": benchmark.name, "digest": benchmark.source.digest, "skipped": list(map(asdict, skipped))},
            "l2_penalty": learned.l2_penalty,
            "folds": NUM_FOLDS,
            "acceptance": ACCEPTANCE,
            "accuracy": asdict(learned.accuracy),
            "calibration": calibration,
            "classes": list(map(asdict, classes)),
        },
    )
