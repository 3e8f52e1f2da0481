"""Signatures of images: what is kept of each to find its near duplicates."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.images.local_features import FEATURE_DTYPE, FEATURE_SIDE, compute_local_features
from zebra.images.perceptual_hash import compute_perceptual_hashes
from zebra.images.registration import Box, shows_same

SIGNATURE_VERSION = 1
"""Changes when a signature may change."""
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 128, 90
MAX_ASPECT_CHANGE = 4 / 3
"""Largest change of the aspect ratio of a whole image, as in CLIP's appendix C."""
MIN_CROP_AREA, MIN_OVERLAP = 0.2, 0.8
"""A crop has at least this share of the area of the original, and at least this share of it is in the original."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What is kept of an image, 8 to 15 kB."""

    hash: int
    """The perceptual hash."""
    features: NDArray[np.void]
    """Local features, [K] of FEATURE_DTYPE; none if crops are not searched."""
    thumbnail: bytes | memoryview
    """JPEG with a longer side of THUMBNAIL_SIDE; a view of a file on disk where there are many."""

    def open_thumbnail(self) -> Image.Image:
        """Return the thumbnail as an RGB image."""
        return Image.open(io.BytesIO(self.thumbnail))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a reference image is in a query image, both with a longer side of FEATURE_SIDE."""

    scale: float
    """Size of the reference in the query, relative to its own size."""
    left: float
    top: float


def compute_signature(image: Image.Image, *, crops: bool = True) -> Signature:
    """Return the signature of an image from `decode_image`; without local features unless crops are searched."""
    thumbnail = image.convert("RGB")
    thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY, subsampling=0)
    features = compute_local_features(image) if crops else np.zeros(0, FEATURE_DTYPE)
    return Signature(int(compute_perceptual_hashes([image])[0]), features, buffer.getvalue())


def is_copy(query: Signature, reference: Signature, placement: Placement | None, *, any_color: bool = False) -> bool:
    """Return whether two images show the same, by their thumbnails.

    Args:
        placement: Where the reference is in the query; None compares whole images.
        any_color: A gray copy counts too.
    """
    first, second = query.open_thumbnail(), reference.open_thumbnail()
    if placement is None:
        aspect_change = first.width * second.height / (first.height * second.width)
        is_similar = 1 / MAX_ASPECT_CHANGE <= aspect_change <= MAX_ASPECT_CHANGE
        return is_similar and shows_same(first, second, any_color=any_color)
    boxes = _find_common_part(first.size, second.size, placement)
    if boxes is None:
        return False
    if boxes[0].area < boxes[1].area:
        return shows_same(first, second, *boxes, any_color=any_color)
    return shows_same(second, first, *boxes[::-1], any_color=any_color)


def _find_common_part(
    query_size: tuple[int, int], reference_size: tuple[int, int], placement: Placement
) -> tuple[Box, Box] | None:
    """Return the common part of two images in fractions of each, or None if it is too small for copies."""
    query, reference = (np.array(size) * FEATURE_SIDE / max(size) for size in (query_size, reference_size))
    reference = reference * placement.scale  # in the query
    corner = np.array([placement.left, placement.top])
    start, stop = np.maximum(corner, 0), np.minimum(corner + reference, query)
    if (stop <= start).any():
        return None
    query_box, reference_box = (
        Box(*((start - origin) / size).tolist(), *((stop - origin) / size).tolist())
        for origin, size in ((0, query), (corner, reference))
    )
    small, large = sorted((query_box.area, reference_box.area))
    return (query_box, reference_box) if small >= MIN_CROP_AREA and large >= MIN_OVERLAP else None
