"""Names, labels and a way to fetch each picture in; a source of labelled records out."""

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.data.folders import IMAGE_SUFFIXES, read_image_bytes
from zebra.errors import BadSample, DataError
from zebra.values import Record

PNM_SUFFIXES = (".ppm", ".pgm")
"""Pixels without a codec, as GTSRB has them; they are handed on as PNG."""
BENCHMARK_IMAGE_SUFFIXES = (*IMAGE_SUFFIXES, *PNM_SUFFIXES)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Pictures in a fixed order; a `zebra.data.sources.Source`."""

    name: str
    """Where they lie."""
    ids: Sequence[str]
    load: Callable[[int], bytes]
    """Position → encoded picture; BadSample if it cannot be had. Picklable, so that it travels to workers."""
    digest: str
    """A sha256 in hex that changes when the data changes."""
    labels: Sequence[int] | None = None
    """Class indices; None for pictures whose labels are kept elsewhere."""

    def __len__(self) -> int:
        return len(self.ids)

    def sample_id(self, index: int) -> str:
        """Return the id of a picture without reading it."""
        return self.ids[index]

    def read(self, index: int) -> Record:
        """Read one picture; BadSample if it cannot be used."""
        label = None if self.labels is None else int(self.labels[index])
        return Record(self.ids[index], self.load(index), label=label)


def open_image_files(root: Path, paths: Sequence[Path], labels: Sequence[int] | None = None) -> ImageSource:
    """Make a source of picture files; an id is the path below `root`.

    Raises:
        DataError: A file is not there: the set would be smaller than it says.
    """
    ids = [path.relative_to(root).as_posix() for path in paths]
    try:
        sizes = [path.stat().st_size for path in paths]
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}); unpack the set again"
        ) from error
    digest = hash_values([*zip(ids, sizes, strict=True)], labels)
    return ImageSource(str(root), ids, partial(_load_file, tuple(map(str, paths)), ids), digest, labels)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 [H, W] or [H, W, 3] without loss."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def hash_values(*parts: object) -> str:
    """Return a sha256 in hex over plain values."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """Return a sha256 in hex over the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def empty_class_notes(labels: Iterable[int], classnames: Sequence[str]) -> tuple[str, ...]:
    """Say in at most one sentence which classes have no picture: they can be predicted, but not be right."""
    empty = sorted(set(range(len(classnames))) - set(labels))
    if not empty:
        return ()
    names = ", ".join(classnames[label] for label in empty[:5])
    return (
        f"{len(empty)} of {len(classnames)} classes have no picture here: {names}{', …' if empty[5:] else ''}",
    )


def _load_file(paths: Sequence[str], ids: Sequence[str], index: int) -> bytes:
    path = Path(paths[index])
    data = read_image_bytes(path, ids[index])
    if path.suffix.lower() not in PNM_SUFFIXES:
        return data
    try:
        with Image.open(io.BytesIO(data), formats=("PPM",)) as image:
            return encode_png(np.asarray(image))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadSample("damaged image", ids[index], str(error)) from error
