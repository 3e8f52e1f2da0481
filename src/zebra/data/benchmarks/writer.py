"""Labelled or captioned pictures in, a CLIP_benchmark folder out; `benchmarks.py` reads it back."""

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
    """Write `folder/<split>/0.tar …`, with nshards.txt last: a half-written set is not read as a whole one.

    Args:
        samples: Encoded image, its suffix ("png"), and its class index.
        classnames: One name per class; the position is the label.
        templates: Prompts with `{c}` where the class name goes.

    Raises:
        DataError: No samples, a label without a class, or a name or template that the format cannot hold.
    """

    def rows() -> Iterator[dict[str, bytes]]:
        for number, (image, suffix, label) in enumerate(samples):
            if not 0 <= label < len(classnames):
                raise DataError(f"{out_dir}: sample {number} has label {label} of {len(classnames)} classes")
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
    """Write a set whose pictures may show several classes; as `write_benchmark`, with a bool [C] for each label."""

    def rows() -> Iterator[dict[str, bytes]]:
        for number, (image, suffix, label_C) in enumerate(samples):
            if label_C.shape != (len(classnames),):
                raise DataError(
                    f"{out_dir}: sample {number} has labels of shape {label_C.shape} for {len(classnames)} classes"
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
    """Write a set of captioned pictures; as `write_benchmark`, with all captions of a picture as its label.

    Raises:
        DataError: No samples, a picture without a caption, or a caption that would not be read back as it is: a blank
            one, one with a backslash before an n (the format's line break), or with an odd line break.
    """

    def rows() -> Iterator[dict[str, bytes]]:
        for number, (image, suffix, captions) in enumerate(samples):
            yield {suffix: image, "txt": _join_captions(captions, f"{out_dir}: sample {number}")}

    _write_split(out_dir, rows(), {DATASET_TYPE_FILENAME: ("retrieval",)}, split, samples_per_shard)


def _join_captions(captions: Sequence[str], where: str) -> bytes:
    text = "\n".join(caption.replace("\n", "\\n") for caption in captions)
    # CLIP_benchmark itself splits at every line break that Unicode knows.
    if not all(caption.strip() for caption in captions) or text.splitlines() != text.split("\n"):
        raise DataError(f"{where} has a caption that is blank or holds an odd line break: {captions!r}")
    try:
        data = text.encode()
        whole = split_captions(decode_caption(data, where)) == tuple(captions)
    except (UnicodeEncodeError, BadSample):
        whole = False
    if not whole:
        raise DataError(f"{where} has captions that would not be read back as they are: {captions!r}")
    return data


def _class_files(classnames: Sequence[str], templates: Sequence[str]) -> dict[str, Sequence[str]]:
    _validate_lines(classnames, "class name")
    _validate_lines(templates, "template")
    return {CLASSNAMES_FILENAME: classnames, TEMPLATES_FILENAME: templates}


def _write_split(
    out_dir: Path,
    samples: Iterator[dict[str, bytes]],
    text_files: dict[str, Sequence[str]],
    split: str,
    samples_per_shard: int,
) -> None:
    shards = out_dir / split
    _require_same_classes(out_dir, text_files, split)
    shards.mkdir(parents=True, exist_ok=True)
    (shards / NUM_SHARDS_FILENAME).unlink(missing_ok=True)
    for name in (CLASSNAMES_FILENAME, TEMPLATES_FILENAME, DATASET_TYPE_FILENAME):
        (out_dir / name).unlink(missing_ok=True)
    for name, lines in text_files.items():
        _write_lines(out_dir / name, lines)
    with ShardWriter(shards, samples_per_shard=samples_per_shard, num_digits=1) as writer:
        for number, fields in enumerate(samples):
            writer.write(f"s{number:07d}", fields)
    if not writer.shards:
        raise DataError(f"{out_dir}: no samples to write")
    for stale in set(shards.glob("*.tar")) - set(writer.shards):  # of a larger set that was here before
        if stale.stem.isdecimal():
            stale.unlink()
    _write_lines(shards / NUM_SHARDS_FILENAME, [str(len(writer.shards))])


def _require_same_classes(out_dir: Path, text_files: dict[str, Sequence[str]], split: str) -> None:
    """Refuse to change the meaning of what another split's labels say."""
    others = [name for name in list_splits(out_dir) if name != split]
    for name in (CLASSNAMES_FILENAME, DATASET_TYPE_FILENAME) if others else ():
        told = tuple(text_files.get(name, ()))
        there = read_lines(out_dir / name) if (out_dir / name).is_file() else ()
        if told != there:
            raise DataError(
                f"{out_dir} holds the split {others[0]} under another {name}; write {split} with the same, or elsewhere"
            )


def _validate_lines(lines: Sequence[str], kind: str) -> None:
    if not lines:
        raise DataError(f"no {kind}: give at least one")
    for line in lines:
        if line.splitlines() != [line.rstrip()]:
            raise DataError(f"the {kind} {line!r} must be one line, not blank, without blanks at its end")
        if kind == "template" and "{c}" not in line:
            raise DataError(f"the template {line!r} has no {{c}} for the class name")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
