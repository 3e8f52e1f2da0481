"""Load the training and validation splits of a dataset, for probes."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark
from zebra.errors import DataError, DownloadError, MissingSplit
from zebra.evaluators.datasets import load_dataset

VALIDATION_SPLITS = ("val", "valid", "validation", "dev")
LabeledBenchmark = TypeVar("LabeledBenchmark", ClassificationBenchmark, MultilabelBenchmark)


@dataclass(frozen=True, slots=True)
class TrainingSplits(Generic[LabeledBenchmark]):
    """The examples of a probe: λ is chosen on the validation split, the final fit uses both (CLIP App. A.3)."""

    train: LabeledBenchmark
    validation: LabeledBenchmark | None = None
    """None: a part of the training split is held out."""
    notes: tuple[str, ...] = ()


def load_training_splits(
    dataset: str, benchmark: LabeledBenchmark, split: str, data_root: str | None
) -> TrainingSplits[LabeledBenchmark] | None:
    """Load the training split and the validation split of a dataset; None if it has no training split.

    Args:
        dataset: Name of the dataset, as for `load_dataset`.
        benchmark: The evaluated split, which is never used for training.
        split: Its name.
        data_root: Folder of archives and copies of the catalog's datasets.

    Raises:
        DataError: A split is damaged, has other classes than the evaluated one, or the evaluated one is the training
            split.
        DownloadError: The hub is not reachable and the training split is not cached.
    """
    try:
        train = _load_split(dataset, "train", benchmark, split, data_root)
    except MissingSplit:
        return None
    if train.source.digest == benchmark.source.digest:
        raise DataError(
            f"the split {split!r} of {dataset} is the training split, on which a probe would be evaluated on its own "
            "examples. Name another --split, or leave out the tasks linear-probe and few-shot."
        )
    num_train = f"{len(train.source):,} training examples"
    for name in VALIDATION_SPLITS:
        try:
            validation = _load_split(dataset, name, benchmark, split, data_root)
        except MissingSplit:
            continue
        except DownloadError as error:
            note = f"fitted to {num_train}; whether there is a validation split could not be looked up ({error})"
            return TrainingSplits(train, notes=(note,))
        if validation.source.digest != benchmark.source.digest:
            note = f"fitted to {num_train} and the {len(validation.source):,} of the split {name}, which chose λ"
            return TrainingSplits(train, validation, (note,))
    return TrainingSplits(train, notes=(f"fitted to {num_train}, of which a fifth chose λ",))


def _load_split(
    dataset: str, name: str, benchmark: LabeledBenchmark, split: str, data_root: str | None
) -> LabeledBenchmark:
    loaded = load_dataset(dataset, name, data_root)
    if not isinstance(loaded, type(benchmark)) or loaded.classnames != benchmark.classnames:
        raise DataError(
            f"the split {name} of {dataset} has other classes than its split {split}. Repair the dataset, or leave out "
            "the tasks linear-probe and few-shot."
        )
    return loaded
