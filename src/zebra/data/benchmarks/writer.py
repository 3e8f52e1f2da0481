"""Writer of benchmarks in CLIP_benchmark's WebDataset layout."""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES_FILENAME,
    DATASET_TYPE_FILENAME,
    NUM_SHARDS_FILENAME,
    TEMPLATES_FILENAME,
    list_splits,
    read_lines,
    split_captions,
)
from zebra.data.folders import decode_caption
from zebra.data.shard_writer import ShardWriter
from zebra.errors import BadSample, DataError


def write_classification(
    out_dir: Path,
    samples: Iterable[tuple[bytes, str, int]],
    classnames: Sequence[str],
    templates: Sequence[str],
    split: str = "test",
    samples_per_shard: int = 10_000,
) -> None:
    """Write a split of a classification dataset; nshards.txt is written last, so readers refuse a partial split.

    Args:
        out_dir: Folder of the dataset, with one subfolder per split.
        samples: Tuples of encoded image, its suffix ("png") and its label.
        classnames: Class names in the order of the labels.
        templates: Prompt templates with the placeholder `{c}`.
        split: Name of the split.
        samples_per_shard: Maximum number of samples in a .tar file.

    Raises:
        DataError: There are no samples, a label is out of range, or the format cannot store a class name or template.
    """

    def rows() -> Iterator[dict[str, bytes]]:
        for index, (image, suffix, label) in enumerate(samples):
            if not 0 <= label < len(classnames):
                raise DataError(
                    f"{out_dir}: sample {index} has the label {label}, but there are {len(classnames)} classes"
                )
            yield {suffix: image, "cls": str(label).encode()}

    _write_split(out_dir, rows(), _class_files(classnames, templates), split, samples_per_shard)


def write_multilabel(
    out_dir: Path,
    samples: Iterable[tuple[bytes, str, NDArray[np.bool_]]],
    classnames: Sequence[str],
    templates: Sequence[str],
    split: str = "test",
    samples_per_shard: int = 10_000,
) -> None:
    """Write a split of a multilabel dataset; as `write_classification`, with bool labels [C] per image."""

    def rows() -> Iterator[dict[str, bytes]]:
        for index, (image, suffix, label_C) in enumerate(samples):
            if label_C.shape != (len(classnames),):
                raise DataError(
                    f"{out_dir}: sample {index} has labels of shape {label_C.shape}, but there are "
                    f"{len(classnames)} classes"
                )
            buffer = io.BytesIO()
            np.save(buffer, label_C.astype(np.int64), allow_pickle=False)
            yield {suffix: image, "npy": buffer.getvalue()}

    texts = {DATASET_TYPE_FILENAME: ("multilabel",), **_class_files(classnames, templates)}
    _write_split(out_dir, rows(), texts, split, samples_per_shard)


def write_retrieval(
    out_dir: Path,
    samples: Iterable[tuple[bytes, str, Sequence[str]]],
    split: str = "test",
    samples_per_shard: int = 10_000,
) -> None:
    r"""Write a split of a retrieval dataset; as `write_classification`, with all captions of an image.

    Raises:
        DataError: There are no samples, an image has no caption, or a caption cannot be restored by readers: it is
            blank, contains `\n` as two characters (the format's line break), or another line break of Unicode.
    """

    def rows() -> Iterator[dict[str, bytes]]:
        for index, (image, suffix, captions) in enumerate(samples):
            yield {suffix: image, "txt": _join_captions(captions, f"{out_dir}: sample {index}")}

    _write_split(out_dir, rows(), {DATASET_TYPE_FILENAME: ("retrieval",)}, split, samples_per_shard)


def _join_captions(captions: Sequence[str], where: str) -> bytes:
    text = "\n".join(caption.replace("\n", "\\n") for caption in captions)
    # CLIP_benchmark splits captions with str.splitlines.
    if not all(caption.strip() for caption in captions) or text.splitlines() != text.split("\n"):
        raise DataError(f"{where} has a caption that is blank or contains a special line break: {captions!r}")
    try:
        data = text.encode()
        is_restored = split_captions(decode_caption(data, where)) == tuple(captions)
    except (UnicodeEncodeError, BadSample):
        is_restored = False
    if not is_restored:
        raise DataError(f"{where} has captions that readers cannot restore: {captions!r}")
    return data


def _class_files(classnames: Sequence[str], templates: Sequence[str]) -> dict[str, Sequence[str]]:
    if classnames and not classnames[-1]:  # readers take the last line break for the end of the file
        raise DataError("the last class name is empty. Give the class a name, or another place in the order")
    _validate_lines([name for name in classnames if name], "class name")
    _validate_lines(templates, "template")
    return {CLASSNAMES_FILENAME: classnames, TEMPLATES_FILENAME: templates}


def _write_split(
    out_dir: Path,
    samples: Iterator[dict[str, bytes]],
    text_files: dict[str, Sequence[str]],
    split: str,
    samples_per_shard: int,
) -> None:
    split_dir = out_dir / split
    _require_same_classes(out_dir, text_files, split)
    split_dir.mkdir(parents=True, exist_ok=True)
    (split_dir / NUM_SHARDS_FILENAME).unlink(missing_ok=True)
    for filename in (CLASSNAMES_FILENAME, TEMPLATES_FILENAME, DATASET_TYPE_FILENAME):
        (out_dir / filename).unlink(missing_ok=True)
    for filename, lines in text_files.items():
        _write_lines(out_dir / filename, lines)
    with ShardWriter(split_dir, samples_per_shard=samples_per_shard, num_digits=1) as writer:
        for index, fields in enumerate(samples):
            writer.write(f"s{index:07d}", fields)
    if not writer.shards:
        raise DataError(f"{out_dir}: no samples to write")
    for stale in set(split_dir.glob("*.tar")) - set(writer.shards):  # shards of an earlier, larger split
        if stale.stem.isdecimal():
            stale.unlink()
    _write_lines(split_dir / NUM_SHARDS_FILENAME, [str(len(writer.shards))])


def _require_same_classes(out_dir: Path, text_files: dict[str, Sequence[str]], split: str) -> None:
    """Raise DataError if another split has other class names or another type."""
    others = [name for name in list_splits(out_dir) if name != split]
    for filename in (CLASSNAMES_FILENAME, DATASET_TYPE_FILENAME) if others else ():
        new_lines = tuple(text_files.get(filename, ()))
        existing_lines = read_lines(out_dir / filename, allow_empty=True) if (out_dir / filename).is_file() else ()
        if new_lines != existing_lines:
            raise DataError(
                f"{out_dir} has the split {others[0]} with another {filename}. Write {split} with the same "
                f"{filename}, or into another folder"
            )


def _validate_lines(lines: Sequence[str], kind: str) -> None:
    if not lines:
        raise DataError(f"no {kind} given. Give at least one")
    for line in lines:
        if line.splitlines() != [line.rstrip()]:
            raise DataError(f"the {kind} {line!r} must be one line, not blank, without trailing spaces")
        if kind == "template" and "{c}" not in line:
            raise DataError(f"the template {line!r} has no {{c}} for the class name")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
