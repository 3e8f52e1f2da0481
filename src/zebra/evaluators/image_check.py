"""Check images of an evaluation dataset: unreadable ones, and copies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.config.cores import usable_cores
from zebra.data.sources import Source
from zebra.engines.threads import ThreadEngine
from zebra.errors import BadSample
from zebra.images.formats import image_digest
from zebra.images.jpeg import decode_scaled
from zebra.images.perceptual_hash import PerceptualHashIndex, compute_perceptual_hashes
from zebra.protocols.near_duplicates import MAX_HASH_DISTANCE

CHECKED_SIDE = 64
"""Shorter side in pixels at which images are decoded, at least."""
MAX_UNIFORM_RANGE = 2
"""Largest range of the pixels of an image of one color, of 255."""
MAX_SIMILAR_HASHES = 1000
"""Most images with a common band of their hashes that are compared with each other."""


@dataclass(frozen=True, slots=True)
class CheckedImages:
    """What one pass over the images of a split shows; N images can be read."""

    ids: tuple[str, ...]
    label_N: NDArray[np.int64]
    """Class indices; -1 for none."""
    digest_N: tuple[str, ...]
    """SHA-256 of the encoded images."""
    hash_N: NDArray[np.uint64]
    """Perceptual hashes."""
    is_uniform_N: NDArray[np.bool_]
    """Whether the image has one color."""
    bad_samples: tuple[BadSample, ...]


@dataclass(frozen=True, slots=True)
class _CheckedImage:
    id: str
    label: int
    digest: str
    hash: np.uint64
    is_uniform: bool


def check_images(source: Source, num_images: int, progress: Callable[[int], None]) -> CheckedImages:
    """Read and decode the first images of a split once, in threads.

    Args:
        num_images: How many are checked.
        progress: Called with the number of images that are done.
    """
    images: list[_CheckedImage] = []
    bad_samples: list[BadSample] = []
    engine = ThreadEngine(usable_cores())
    for done, result in enumerate(engine.map(lambda index: _check_image(source, index), range(num_images)), start=1):
        if isinstance(result, BadSample):
            bad_samples.append(result)
        else:
            images.append(result)
        progress(done)
    return CheckedImages(
        tuple(image.id for image in images),
        np.array([image.label for image in images], np.int64),
        tuple(image.digest for image in images),
        np.array([image.hash for image in images], np.uint64),
        np.array([image.is_uniform for image in images], np.bool_),
        tuple(bad_samples),
    )


def _check_image(source: Source, index: int) -> _CheckedImage | BadSample:
    try:
        record = source.read(index)
        pixels, _ = decode_scaled(record.image, record.id, CHECKED_SIDE, lambda width, height: (0, 0, width, height))
    except BadSample as bad:
        return bad
    return _CheckedImage(
        record.id,
        -1 if record.label is None else record.label,
        image_digest(record.image),
        compute_perceptual_hashes([Image.fromarray(pixels)])[0],
        int(np.ptp(pixels, axis=(0, 1)).max()) <= MAX_UNIFORM_RANGE,
    )


@dataclass(frozen=True, slots=True)
class Copies:
    """Pairs of images that show the same."""

    exact: tuple[tuple[str, str], ...]
    """Ids of a later image and of the first one with the same bytes."""
    near: tuple[tuple[str, str], ...]
    """Ids of images that differ in their bytes, but hardly in their perceptual hashes; not those of one color."""
    conflicting: tuple[tuple[str, str], ...]
    """The exact copies whose labels differ."""


def find_copies(images: CheckedImages, others: CheckedImages | None = None) -> Copies:
    """Find copies within a split, or, with `others`, copies of images of another split.

    Near copies that are mirrored, cropped or bordered are not found.
    """
    first_by_digest: dict[str, int] = {}
    reference = images if others is None else others
    for row, digest in enumerate(reference.digest_N):
        first_by_digest.setdefault(digest, row)
    exact = [
        (row, first)
        for row, digest in enumerate(images.digest_N)
        if (first := first_by_digest.get(digest)) is not None and (others is not None or first != row)
    ]
    return Copies(
        tuple((images.ids[row], reference.ids[first]) for row, first in exact),
        tuple(
            (images.ids[row], reference.ids[other])
            for row, other in _iter_near_pairs(images, reference)
            if images.digest_N[row] != reference.digest_N[other] and (others is not None or other < row)
        ),
        tuple(
            (images.ids[row], reference.ids[first])
            for row, first in exact
            if images.label_N[row] != reference.label_N[first]
        ),
    )


def _iter_near_pairs(images: CheckedImages, reference: CheckedImages) -> Iterator[tuple[int, int]]:
    row_M, other_M = np.flatnonzero(~images.is_uniform_N), np.flatnonzero(~reference.is_uniform_N)
    index = PerceptualHashIndex(reference.hash_N[other_M], MAX_HASH_DISTANCE, MAX_SIMILAR_HASHES)
    rows, others, _ = index.find(images.hash_N[row_M])
    yield from zip(row_M[rows].tolist(), other_M[others].tolist(), strict=True)


def describe_pairs(pairs: Sequence[tuple[str, str]], max_examples: int = 3) -> str:
    """Return examples of pairs as text.

    >>> describe_pairs([("b.png", "a.png")])
    'b.png = a.png'
    """
    examples = [f"{copy} = {original}" for copy, original in pairs[:max_examples]]
    return ", ".join([*examples, *(["…"] if len(pairs) > max_examples else [])])
