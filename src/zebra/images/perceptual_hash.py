"""64-bit perceptual hashes of images (pHash), and search among them.

The hash is computed from the lowest 8 × 8 frequencies of the discrete cosine transform (Zauner 2010, "Implementation
and Benchmarking of Perceptual Image Hash Functions"). It is robust to rescaling, recompression and small color changes,
not to cropping, rotation or mirroring. All images of a single color have the same hash.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.errors import DataError

HASH_BITS, RESIZED_SIDE, NUM_FREQUENCIES = 64, 32, 8
HASH_BLOCK_SIZE = 2048
"""Hashes per side of a block of comparisons: 16 MiB of distances."""


def compute_perceptual_hashes(images: Sequence[Image.Image]) -> NDArray[np.uint64]:
    """Return the hash of each image from `decode_image`; the highest bit is that of the lowest frequency."""
    pixels_NHW = np.array([_to_gray(image) for image in images], dtype=np.float64).reshape(
        -1, RESIZED_SIDE, RESIZED_SIDE
    )
    basis = _dct_basis()
    spectrum_NF = (basis @ pixels_NHW @ basis.T).reshape(-1, HASH_BITS)
    # Values that are zero except for rounding, as in symmetric images, must not give random bits.
    spectrum_NF = spectrum_NF.round(3)
    median_N1 = np.median(spectrum_NF, axis=1, keepdims=True)
    packed = np.packbits(spectrum_NF > median_N1, axis=1)
    return packed.view(">u8")[:, 0].astype(np.uint64)


def find_nearest_hashes(
    hash_N: NDArray[np.uint64], reference_M: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distance in bits to the nearest reference of each hash, and its index; the first of ties.

    Raises:
        DataError: If there are no reference hashes.
    """
    if not len(reference_M):
        raise DataError("no reference hashes; hash the training images first")
    distance_N = np.full(len(hash_N), HASH_BITS + 1, dtype=np.int64)
    nearest_N = np.zeros(len(hash_N), dtype=np.int64)
    for row, column, agreement in _iter_blocks(hash_N, reference_M):
        best = agreement.argmax(axis=1)
        distance = (HASH_BITS - agreement[np.arange(len(best)), best].astype(np.int64)) // 2
        rows = row + np.flatnonzero(distance < distance_N[row : row + len(best)])
        distance_N[rows], nearest_N[rows] = distance[rows - row], column + best[rows - row]
    return distance_N, nearest_N


def find_hash_pairs(
    hash_N: NDArray[np.uint64], reference_M: NDArray[np.uint64], max_distance: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs within `max_distance` bits: indices in hash_N, indices in reference_M, distances."""
    parts = [np.zeros((3, 0), dtype=np.int64)]
    for row, column, agreement in _iter_blocks(hash_N, reference_M):
        first, second = np.nonzero(agreement >= HASH_BITS - 2 * max_distance)
        bits = (HASH_BITS - agreement[first, second].astype(np.int64)) // 2
        parts.append(np.stack([first + row, second + column, bits]))
    pairs = np.concatenate(parts, axis=1)
    return pairs[0], pairs[1], pairs[2]


def _to_gray(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("L").resize((RESIZED_SIDE, RESIZED_SIDE), Image.Resampling.LANCZOS))


def _dct_basis() -> NDArray[np.float64]:
    """Return the first rows of the DCT-II, [8, 32], without normalization, like `phash` of ImageHash."""
    frequency, position = np.arange(NUM_FREQUENCIES)[:, None], np.arange(RESIZED_SIDE) + 0.5
    basis: NDArray[np.float64] = 2 * np.cos(np.pi * frequency * position / RESIZED_SIDE)
    return basis


def _iter_blocks(
    hash_N: NDArray[np.uint64], reference_M: NDArray[np.uint64]
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield (first row, first column, agreement): the number of equal bits minus different bits.

    A product of signs computes it: exact in float32, at the speed of BLAS.
    """
    for row in range(0, len(hash_N), HASH_BLOCK_SIZE):
        sign_NF = _bits_to_signs(hash_N[row : row + HASH_BLOCK_SIZE])
        for column in range(0, len(reference_M), HASH_BLOCK_SIZE):
            yield row, column, sign_NF @ _bits_to_signs(reference_M[column : column + HASH_BLOCK_SIZE]).T


def _bits_to_signs(hash_N: NDArray[np.uint64]) -> NDArray[np.float32]:
    bits = np.unpackbits(hash_N.astype(">u8").view(np.uint8).reshape(-1, HASH_BITS // 8), axis=1)
    return bits.astype(np.float32) * 2 - 1
