"""Reader of benchmarks in CLIP_benchmark's WebDataset layout.

The root contains `classnames.txt`, `zeroshot_classification_templates.txt` and `dataset_type.txt`. Each split has
`<split>/nshards.txt` with `<split>/0.tar`, `1.tar`, …. A sample is an image with `.cls` (a label), `.npy` (multi-hot
labels) or `.txt` (captions, one per line).
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark, RetrievalBenchmark
from zebra.data.image_source import ImageSource, empty_class_notes, hash_values
from zebra.data.remote.blobs import ByteRange
from zebra.data.shards import IMAGE_FIELDS, ShardSource
from zebra.data.tar_index import TarIndex
from zebra.errors import BadSample, DataError, MissingSplit
from zebra.values import Record

CLASSNAMES_FILENAME = "classnames.txt"
TEMPLATES_FILENAME = "zeroshot_classification_templates.txt"
DATASET_TYPE_FILENAME = "dataset_type.txt"
NUM_SHARDS_FILENAME = "nshards.txt"


def read_classification(folder: Path, split: str = "test") -> ClassificationBenchmark:
    """Open one split of a classification dataset.

    Raises:
        DataError: A file, a shard or a class name is missing, or the dataset has another type. An incomplete split is
            never read.
    """
    templates = read_templates(folder / TEMPLATES_FILENAME)
    if (dataset_type := read_dataset_type(folder)) != "classification":
        raise DataError(f"{folder} is a {dataset_type} dataset, not a classification dataset")
    source = _open_split(folder, split)
    labels = _read_labels(source)
    max_label = int(labels.max())
    classnames = _read_classnames(folder / CLASSNAMES_FILENAME, max_label + 1)
    if max_label >= len(classnames):
        shard_name = next(name for name, label in source.max_labels() if label == max_label)
        raise DataError(
            f"{shard_name} has the label {max_label}, but {folder / CLASSNAMES_FILENAME} has {len(classnames)} "
            f"class names (0 to {len(classnames) - 1}). One of them belongs to another dataset"
        )
    notes = empty_class_notes(np.unique(labels).tolist(), classnames)
    return ClassificationBenchmark(folder.resolve().name, classnames, templates, source, notes=notes)


def read_multilabel(folder: Path, split: str = "test") -> MultilabelBenchmark:
    """Open one split of a multilabel dataset; raise DataError as `read_classification`."""
    classnames = read_lines(folder / CLASSNAMES_FILENAME, allow_empty=True)  # the label vectors confirm their number
    templates = read_templates(folder / TEMPLATES_FILENAME)
    shards = _open_split(folder, split)
    ids = [shards.sample_id(index) for index in range(len(shards))]
    locations, rows = [], []
    for shard_index, shard in enumerate(shards.shards):
        samples = [shard.sample(index) for index in range(len(shard))]
        for sample in samples:
            image_fields = [name for name in IMAGE_FIELDS if name in sample.fields]
            if len(image_fields) != 1 or "npy" not in sample.fields or sample.duplicate_field:
                raise DataError(
                    f"{shard.blob.name}/{sample.key} must have one image and one .npy, not "
                    f"{', '.join(f'.{suffix}' for suffix in sample.fields)}"
                )
            locations.append((shard_index, sample.fields[image_fields[0]]))
        vectors = shard.start_read([sample.fields["npy"] for sample in samples])()
        shard.close()
        rows += [
            _parse_label_vector(data, len(classnames), f"{shard.blob.name}/{sample.key}.npy")
            for sample, data in zip(samples, vectors, strict=True)
        ]
    labels_NC = np.stack(rows)
    digest = hash_values(shards.digest, labels_NC.tobytes())
    source = ImageSource(shards.name, ids, partial(_load_field, shards.shards, locations), digest)
    notes = empty_class_notes(np.flatnonzero(labels_NC.any(axis=0)).tolist(), classnames)
    return MultilabelBenchmark(folder.resolve().name, classnames, templates, source, labels_NC, notes=notes)


def read_retrieval(folder: Path, split: str = "test") -> RetrievalBenchmark:
    """Open one split of a retrieval dataset, which has no class names or templates."""
    return RetrievalBenchmark(folder.resolve().name, MultiCaptionSource(_open_split(folder, split)))


BENCHMARK_READERS: dict[
    str, Callable[[Path, str], ClassificationBenchmark | MultilabelBenchmark | RetrievalBenchmark]
] = {"classification": read_classification, "multilabel": read_multilabel, "retrieval": read_retrieval}
"""Dataset type → function that reads one split."""


def read_clip_benchmark(
    folder: Path, split: str = "test"
) -> ClassificationBenchmark | MultilabelBenchmark | RetrievalBenchmark:
    """Open one split of a dataset of the type in `dataset_type.txt`.

    Raises:
        DataError: As for `read_classification`, or the type is unknown.
    """
    dataset_type = read_dataset_type(folder)
    if dataset_type not in BENCHMARK_READERS:
        raise DataError(
            f"unknown dataset type {dataset_type!r} in {folder / DATASET_TYPE_FILENAME}. Use "
            f"{', '.join(BENCHMARK_READERS)}"
        )
    return BENCHMARK_READERS[dataset_type](folder, split)


def read_dataset_type(folder: Path) -> str:
    """Return the type in `dataset_type.txt`, or "classification" without that file."""
    return (
        read_lines(folder / DATASET_TYPE_FILENAME)[0].lower()
        if (folder / DATASET_TYPE_FILENAME).is_file()
        else "classification"
    )


def list_splits(folder: Path) -> list[str]:
    """Return the names of the complete splits; [] if the folder has another layout."""
    return sorted(path.parent.name for path in folder.glob(f"*/{NUM_SHARDS_FILENAME}"))


class MultiCaptionSource:
    r"""Shards whose `.txt` has one caption per line; `\n` is a line break inside a caption."""

    def __init__(self, shards: ShardSource) -> None:
        self.shards = shards
        self.name, self.digest, self.ignored = shards.name, shards.digest, shards.ignored

    def __len__(self) -> int:
        return len(self.shards)

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        return self.shards.sample_id(index)

    def read(self, index: int) -> Record:
        """Read one image with all its captions; raise BadSample if there are none or one is empty."""
        record = self.shards.read(index)
        if not record.captions:
            raise BadSample("missing caption", record.id, "no .txt")
        captions = split_captions(record.captions[0])
        for line, caption in enumerate(captions, start=1):
            if not caption.strip():
                raise BadSample("empty caption", record.id, f"line {line} of .txt")
        return replace(record, captions=captions)


def _read_classnames(path: Path, num_used: int) -> tuple[str, ...]:
    """Read class names, one per line, in the order of the labels.

    An empty line is an empty name, as in CLEVR's distances, if the labels need all lines. Otherwise it may be a mistake
    that shifts the names.

    Args:
        path: The file.
        num_used: Largest label plus one.

    Raises:
        DataError: A line is empty and there are more lines than `num_used`, or the file is missing.
    """
    classnames = read_lines(path, allow_empty=True)
    return classnames if len(classnames) == num_used else read_lines(path)


def read_lines(path: Path, *, allow_empty: bool = False) -> tuple[str, ...]:
    """Read the lines of a text file; raise DataError if it is missing or empty, or has an empty line (by default)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        splits = list_splits(path.parent.parent) if path.name == NUM_SHARDS_FILENAME else []
        available = f" The available splits are {', '.join(splits)}." if splits else ""
        raise DataError(
            f"{path.absolute()} cannot be read ({error.strerror}). A CLIP_benchmark folder has {CLASSNAMES_FILENAME}, "
            f"{TEMPLATES_FILENAME} and <split>/{NUM_SHARDS_FILENAME} with <split>/0.tar, 1.tar, ….{available}"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    lines = tuple(line.rstrip() for line in text.rstrip().split("\n"))
    if not any(lines) or not (allow_empty or all(lines)):
        raise DataError(f"{path}:{lines.index('') + 1}: the line is empty. Remove it, or write a value")
    return lines


def read_templates(path: Path) -> tuple[str, ...]:
    """Read prompt templates, one per line; raise DataError if one has no placeholder for the class name."""
    templates = read_lines(path)
    for template in templates:
        if "{c}" not in template and "{}" not in template:
            raise DataError(f"{path}: {template!r} has no {{c}} for the class name")
    return templates


def _open_split(folder: Path, split: str) -> ShardSource:
    source = ShardSource(_list_shards(folder / split), str(folder))
    if not len(source):
        raise DataError(f"{folder / split} has no samples. Write or download the dataset again")
    return source


def _list_shards(folder: Path) -> list[Path]:
    try:
        count = read_lines(folder / NUM_SHARDS_FILENAME)[0]
    except DataError as error:
        if not folder.exists() and list_splits(folder.parent):
            raise MissingSplit(str(error)) from error
        raise
    if not count.isdecimal() or int(count) < 1:
        raise DataError(f"{folder / NUM_SHARDS_FILENAME} must contain the number of shards, not {count!r}")
    paths = [folder / f"{number}.tar" for number in range(int(count))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(paths)} shards that {NUM_SHARDS_FILENAME} counts: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}. Download or write the dataset again"
        )
    if unexpected := sorted(set(folder.glob("*.tar")) - set(paths)):
        raise DataError(
            f"{folder} has {unexpected[0].name}, but {NUM_SHARDS_FILENAME} counts {len(paths)} shards. Correct the "
            "number, or remove the shards of another dataset"
        )
    return paths


def _read_labels(source: ShardSource) -> NDArray[np.int64]:
    """Return the label of every sample, int64 [N]; raise DataError if one is missing."""
    labels_by_shard = []
    for shard in source.shards:
        labels = shard.labels()
        if labels.null_count:
            position = labels.is_null().to_pylist().index(True)
            key = shard.sample(position).key
            raise DataError(f"{shard.blob.name}/{key} has no number in .cls. Every image of the dataset needs one")
        labels_by_shard.append(labels.to_numpy())
        shard.close()
    return np.concatenate(labels_by_shard)


def _parse_label_vector(data: bytes, num_classes: int, where: str) -> NDArray[np.bool_]:
    try:
        vector = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:  # a damaged header may name any shape
        raise DataError(f"{where} is no array ({error}). Write the dataset again") from error
    if vector.shape != (num_classes,):
        raise DataError(
            f"{where} has the shape {vector.shape}, but {CLASSNAMES_FILENAME} has {num_classes} class names. One "
            "of them belongs to another dataset"
        )
    if not np.isin(vector, (0, 1)).all():
        raise DataError(f"{where} has values other than 0 and 1")
    labels_C: NDArray[np.bool_] = vector.astype(np.bool_)
    return labels_C


def _load_field(shards: Sequence[TarIndex], locations: Sequence[tuple[int, ByteRange]], index: int) -> bytes:
    shard_index, byte_range = locations[index]
    (data,) = shards[shard_index].start_read([byte_range])()
    return data


def split_captions(text: str) -> tuple[str, ...]:
    """Split the text of a `.txt` into captions, and restore line breaks inside them."""
    return tuple(line.replace("\\n", "\n") for line in text.removesuffix("\n").split("\n"))
