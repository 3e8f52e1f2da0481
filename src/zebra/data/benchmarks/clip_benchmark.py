"""The CLIP_benchmark folder, read and written: labelled or captioned pictures, class names, prompt templates.

The format is CLIP_benchmark's export to webdataset: `classnames.txt`, `zeroshot_classification_templates.txt` and
`dataset_type.txt` in the root; `<split>/nshards.txt` with `<split>/0.tar`, `1.tar`, … below. A sample is a picture with
`.cls` (a number), `.npy` (a vector of zeros and ones, several labels at once) or `.txt` (captions, a line each).
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
from zebra.errors import BadSample, DataError
from zebra.values import Record

CLASSNAMES_FILENAME = "classnames.txt"
TEMPLATES_FILENAME = "zeroshot_classification_templates.txt"
DATASET_TYPE_FILENAME = "dataset_type.txt"
NUM_SHARDS_FILENAME = "nshards.txt"


def read_classification(folder: Path, split: str = "test") -> ClassificationBenchmark:
    """Open one split of a labelled set.

    Raises:
        DataError: Something is missing: a file, a shard that nshards.txt counts, the class of a label; or the
            set is of another type than classification. A part of a set is never taken for the whole.
    """
    classnames = read_lines(folder / CLASSNAMES_FILENAME)
    templates = read_templates(folder / TEMPLATES_FILENAME)
    if (kind := read_dataset_type(folder)) != "classification":
        raise DataError(f"{folder} is a {kind} set, not one of classification")
    source = _open_split(folder, split)
    labels = _read_labels(source)
    if (highest := int(labels.max())) >= len(classnames):
        where = next(name for name, label in source.max_labels() if label == highest)
        raise DataError(
            f"{where} has the label {highest}, but {folder / CLASSNAMES_FILENAME} names {len(classnames)} classes "
            f"(0 to {len(classnames) - 1}); one of them is of another set"
        )
    notes = empty_class_notes(np.unique(labels).tolist(), classnames)
    return ClassificationBenchmark(folder.resolve().name, classnames, templates, source, notes=notes)


def read_multilabel(folder: Path, split: str = "test") -> MultilabelBenchmark:
    """Open one split of a set whose pictures have a vector of zeros and ones; errors as in `read_benchmark`."""
    classnames = read_lines(folder / CLASSNAMES_FILENAME)
    templates = read_templates(folder / TEMPLATES_FILENAME)
    shards = _open_split(folder, split)
    ids = [shards.sample_id(index) for index in range(len(shards))]
    places, rows = [], []
    for number, shard in enumerate(shards.shards):
        samples = [shard.sample(inside) for inside in range(len(shard))]
        for sample in samples:
            pictures = [name for name in IMAGE_FIELDS if name in sample.fields]
            if len(pictures) != 1 or "npy" not in sample.fields or sample.duplicate_field:
                raise DataError(
                    f"{shard.blob.name}/{sample.key} must hold one picture and one .npy, not "
                    f"{', '.join(f'.{suffix}' for suffix in sample.fields)}"
                )
            places.append((number, sample.fields[pictures[0]]))
        vectors = shard.start_read([sample.fields["npy"] for sample in samples])()
        shard.close()
        rows += [
            _parse_label_vector(data, len(classnames), f"{shard.blob.name}/{sample.key}.npy")
            for sample, data in zip(samples, vectors, strict=True)
        ]
    labels_NC = np.stack(rows)
    digest = hash_values(shards.digest, labels_NC.tobytes())
    source = ImageSource(shards.name, ids, partial(_load_field, shards.shards, places), digest)
    notes = empty_class_notes(np.flatnonzero(labels_NC.any(axis=0)).tolist(), classnames)
    return MultilabelBenchmark(folder.resolve().name, classnames, templates, source, labels_NC, notes=notes)


def read_retrieval(folder: Path, split: str = "test") -> RetrievalBenchmark:
    """Open one split of a captioned set; it needs neither class names nor templates."""
    return RetrievalBenchmark(folder.resolve().name, MultiCaptionSource(_open_split(folder, split)))


BENCHMARK_READERS: dict[
    str, Callable[[Path, str], ClassificationBenchmark | MultilabelBenchmark | RetrievalBenchmark]
] = {
    "classification": read_classification,
    "multilabel": read_multilabel,
    "retrieval": read_retrieval,
}
"""How each type of set is read."""


def read_clip_benchmark(
    folder: Path, split: str = "test"
) -> ClassificationBenchmark | MultilabelBenchmark | RetrievalBenchmark:
    """Open one split of a set of whichever type `dataset_type.txt` says.

    Raises:
        DataError: As in `read_benchmark`, or the type is none that is known.
    """
    kind = read_dataset_type(folder)
    if kind not in BENCHMARK_READERS:
        raise DataError(
            f"{folder / DATASET_TYPE_FILENAME} says {kind!r}; zebra reads {', '.join(BENCHMARK_READERS)}"
        )
    return BENCHMARK_READERS[kind](folder, split)


def read_dataset_type(folder: Path) -> str:
    """Return what `dataset_type.txt` says; without it a set is one of classification."""
    return (
        read_lines(folder / DATASET_TYPE_FILENAME)[0].lower()
        if (folder / DATASET_TYPE_FILENAME).is_file()
        else "classification"
    )


def list_splits(folder: Path) -> list[str]:
    """List the splits that are there whole; none if this is no such folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{NUM_SHARDS_FILENAME}"))


class MultiCaptionSource:
    """Shards whose `.txt` holds several captions, one a line; a backslash and an n stand for a line break inside."""

    def __init__(self, shards: ShardSource) -> None:
        self.shards = shards
        self.name, self.digest = shards.name, shards.digest

    def __len__(self) -> int:
        return len(self.shards)

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""
        return self.shards.sample_id(index)

    def read(self, index: int) -> Record:
        """Read one picture with all its captions; BadSample if it has none, or an empty one among them."""
        record = self.shards.read(index)
        if not record.captions:
            raise BadSample("missing caption", record.id, "there is no .txt")
        captions = split_captions(record.captions[0])
        for line, caption in enumerate(captions, start=1):
            if not caption.strip():
                raise BadSample("empty caption", record.id, f"line {line} of .txt")
        return replace(record, captions=captions)


def read_lines(path: Path) -> tuple[str, ...]:
    """Read a text file of which every line has a meaning; DataError if one is empty or the file is not there."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        beside = list_splits(path.parent.parent) if path.name == NUM_SHARDS_FILENAME else []
        found = f" The splits there are: {', '.join(beside)}." if beside else ""
        raise DataError(
            f"{path.absolute()} cannot be read ({error.strerror}); a CLIP_benchmark folder has {CLASSNAMES_FILENAME}, "
            f"{TEMPLATES_FILENAME} and <split>/{NUM_SHARDS_FILENAME} with <split>/0.tar, 1.tar, ….{found}"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    lines = tuple(line.rstrip() for line in text.rstrip().split("\n"))
    if not all(lines):
        raise DataError(f"{path}:{lines.index('') + 1}: the line is empty, but every line has a meaning")
    return lines


def read_templates(path: Path) -> tuple[str, ...]:
    """Read prompts, one a line; DataError if one has no place for the class name."""
    templates = read_lines(path)
    for template in templates:
        if "{c}" not in template and "{}" not in template:
            raise DataError(f"{path}: {template!r} has no {{c}} for the class name")
    return templates


def _open_split(folder: Path, split: str) -> ShardSource:
    source = ShardSource(_list_shards(folder / split), str(folder))
    if not len(source):
        raise DataError(f"{folder / split} holds no samples; write or download the set again")
    return source


def _list_shards(folder: Path) -> list[Path]:
    count = read_lines(folder / NUM_SHARDS_FILENAME)[0]
    if not count.isdecimal() or int(count) < 1:
        raise DataError(f"{folder / NUM_SHARDS_FILENAME} must hold the number of shards, not {count!r}")
    paths = [folder / f"{number}.tar" for number in range(int(count))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(paths)} shards that {NUM_SHARDS_FILENAME} counts: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}; download or write the set again"
        )
    if beyond := sorted(set(folder.glob("*.tar")) - set(paths)):
        raise DataError(
            f"{folder} holds {beyond[0].name}, but {NUM_SHARDS_FILENAME} counts {len(paths)} shards; mend the number, or remove "
            "what is of another set"
        )
    return paths


def _read_labels(source: ShardSource) -> NDArray[np.int64]:
    """Return the label of every sample; DataError if one has none."""
    columns = []
    for shard in source.shards:
        column = shard.labels()
        if column.null_count:
            number = column.is_null().to_pylist().index(True)
            key = shard.sample(number).key
            raise DataError(
                f"{shard.blob.name}/{key} has no number in .cls; every picture of the set needs one"
            )
        columns.append(column.to_numpy())
        shard.close()
    return np.concatenate(columns)


def _parse_label_vector(data: bytes, num_classes: int, where: str) -> NDArray[np.bool_]:
    try:
        vector = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{where} is no array ({error}); write the set again") from error
    if vector.shape != (num_classes,):
        raise DataError(
            f"{where} has the shape {vector.shape}, but {CLASSNAMES_FILENAME} names {num_classes} classes; one of them is of "
            "another set"
        )
    if not np.isin(vector, (0, 1)).all():
        raise DataError(f"{where} holds other values than 0 and 1")
    labels_C: NDArray[np.bool_] = vector.astype(np.bool_)
    return labels_C


def _load_field(shards: Sequence[TarIndex], locations: Sequence[tuple[int, ByteRange]], index: int) -> bytes:
    number, place = locations[index]
    (data,) = shards[number].start_read([place])()
    return data


def split_captions(text: str) -> tuple[str, ...]:
    """Divide the captions of a `.txt`, and put back the line breaks inside them."""
    return tuple(line.replace("\\n", "\n") for line in text.removesuffix("\n").split("\n"))
