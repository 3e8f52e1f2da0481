"""A source of labeled images from a list of IDs and a load function."""

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.data.ignored import Ignored
from zebra.data.regular_files import read_image_bytes
from zebra.errors import BadSample, DataError
from zebra.images.formats import IMAGE_SUFFIXES
from zebra.values import Record

PNM_SUFFIXES = (".ppm", ".pgm")
"""Uncompressed images, as in GTSRB; they are converted to PNG."""
BENCHMARK_IMAGE_SUFFIXES = (*IMAGE_SUFFIXES, *PNM_SUFFIXES)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Images in a fixed order; a `zebra.data.sources.Source`."""

    name: str
    """The folder or shards of the images."""
    ids: Sequence[str]
    load: Callable[[int], bytes]
    """Position → encoded image; raises BadSample. Picklable, so that it can be sent to workers."""
    digest: str
    """A SHA-256 in hex that changes when the data changes."""
    labels: Sequence[int] | None = None
    """Class indices; None if the labels are stored elsewhere."""
    ignored: tuple[Ignored, ...] = ()
    """Files that were found and are no images of the dataset."""

    def __len__(self) -> int:
        return len(self.ids)

    def sample_id(self, index: int) -> str:
        """Return the ID of an image without reading it."""
        return self.ids[index]

    def read(self, index: int) -> Record:
        """Read one image; raise BadSample if it cannot be used."""
        label = None if self.labels is None else int(self.labels[index])
        return Record(self.ids[index], self.load(index), label=label)


def open_image_files(root: Path, paths: Sequence[Path], labels: Sequence[int] | None = None) -> ImageSource:
    """Return a source of image files; an ID is the path below `root`.

    Raises:
        DataError: A file is missing.
    """
    ids = [path.relative_to(root).as_posix() for path in paths]
    try:
        sizes = [path.stat().st_size for path in paths]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Unpack the dataset again") from error
    digest = hash_values([*zip(ids, sizes, strict=True)], labels)
    return ImageSource(str(root), ids, partial(_load_file, tuple(map(str, paths)), ids), digest, labels)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode uint8 [H, W] or [H, W, 3] as PNG, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def hash_values(*parts: object) -> str:
    """Return a SHA-256 in hex over the repr of plain values."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """Return a SHA-256 in hex over the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def empty_class_notes(labels: Iterable[int], classnames: Sequence[str]) -> tuple[str, ...]:
    """Return a note on classes without an image, which can be predicted but never be correct, or ()."""
    empty_labels = sorted(set(range(len(classnames))) - set(labels))
    if not empty_labels:
        return ()
    names = ", ".join(classnames[label] for label in empty_labels[:5]) + (", …" if empty_labels[5:] else "")
    return (f"{len(empty_labels)} of {len(classnames)} classes have no image here: {names}",)


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
