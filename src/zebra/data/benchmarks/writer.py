"""Labelled or captioned pictures in, a CLIP_benchmark folder out; `benchmarks.py` reads it back."""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES,
    NUM_SHARDS,
    TEMPLATES,
    TYPE,
    read_lines,
    split_captions,
    splits,
)
from zebra.data.folders import caption_text
from zebra.data.shards import ShardWriter
from zebra.errors import BadSample, DataError


def write_benchmark(
    folder: Path,
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
                raise DataError(f"{folder}: sample {number} has label {label} of {len(classnames)} classes")
            yield {suffix: image, "cls": str(label).encode()}

    _write(folder, rows(), _named(classnames, templates), split, samples_per_shard)


def write_multilabel(
    folder: Path,
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
                    f"{folder}: sample {number} has labels of shape {label_C.shape} for {len(classnames)} classes"
                )
            buffer = io.BytesIO()
            np.save(buffer, label_C.astype(np.int64), allow_pickle=False)
            yield {suffix: image, "npy": buffer.getvalue()}

    texts = {TYPE: ("multilabel",), **_named(classnames, templates)}
    _write(folder, rows(), texts, split, samples_per_shard)


def write_retrieval(
    folder: Path,
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
            yield {suffix: image, "txt": _join_captions(captions, f"{folder}: sample {number}")}

    _write(folder, rows(), {TYPE: ("retrieval",)}, split, samples_per_shard)


def _join_captions(captions: Sequence[str], where: str) -> bytes:
    text = "\n".join(caption.replace("\n", "\\n") for caption in captions)
    # CLIP_benchmark itself splits at every line break that Unicode knows.
    if not all(caption.strip() for caption in captions) or text.splitlines() != text.split("\n"):
        raise DataError(f"{where} has a caption that is blank or holds an odd line break: {captions!r}")
    try:
        data = text.encode()
        whole = split_captions(caption_text(data, where)) == tuple(captions)
    except (UnicodeEncodeError, BadSample):
        whole = False
    if not whole:
        raise DataError(f"{where} has captions that would not be read back as they are: {captions!r}")
    return data


def _named(classnames: Sequence[str], templates: Sequence[str]) -> dict[str, Sequence[str]]:
    _check_lines(classnames, "class name")
    _check_lines(templates, "template")
    return {CLASSNAMES: classnames, TEMPLATES: templates}


def _write(
    folder: Path,
    rows: Iterator[dict[str, bytes]],
    texts: dict[str, Sequence[str]],
    split: str,
    samples_per_shard: int,
) -> None:
    shards = folder / split
    _check_other_splits(folder, texts, split)
    shards.mkdir(parents=True, exist_ok=True)
    (shards / NUM_SHARDS).unlink(missing_ok=True)
    for name in (CLASSNAMES, TEMPLATES, TYPE):
        (folder / name).unlink(missing_ok=True)
    for name, lines in texts.items():
        _write_lines(folder / name, lines)
    with ShardWriter(shards, samples_per_shard=samples_per_shard, digits=1) as writer:
        for number, fields in enumerate(rows):
            writer.write(f"s{number:07d}", fields)
    if not writer.shards:
        raise DataError(f"{folder}: no samples to write")
    for stale in set(shards.glob("*.tar")) - set(writer.shards):  # of a larger set that was here before
        if stale.stem.isdecimal():
            stale.unlink()
    _write_lines(shards / NUM_SHARDS, [str(len(writer.shards))])


def _check_other_splits(folder: Path, texts: dict[str, Sequence[str]], split: str) -> None:
    """Refuse to change the meaning of what another split's labels say."""
    others = [name for name in splits(folder) if name != split]
    for name in (CLASSNAMES, TYPE) if others else ():
        told = tuple(texts.get(name, ()))
        there = read_lines(folder / name) if (folder / name).is_file() else ()
        if told != there:
            raise DataError(
                f"{folder} holds the split {others[0]} under another {name}; write {split} with the same, or elsewhere"
            )


def _check_lines(lines: Sequence[str], what: str) -> None:
    if not lines:
        raise DataError(f"no {what}: give at least one")
    for line in lines:
        if line.splitlines() != [line.rstrip()]:
            raise DataError(f"the {what} {line!r} must be one line, not blank, without blanks at its end")
        if what == "template" and "{c}" not in line:
            raise DataError(f"the template {line!r} has no {{c}} for the class name")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
