"""64-bit perceptual hashes of images (pHash), and search among them.

The hash is computed from the lowest 8 × 8 frequencies of the discrete cosine transform (Zauner 2010, "Implementation
and Benchmarking of Perceptual Image Hash Functions"). It is robust to rescaling, recompression and small color changes,
not to cropping, rotation or mirroring. All images of a single color have the same hash.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

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


class PerceptualHashIndex:
    """Finds all hashes within `max_distance` bits by bands, without comparing all pairs.

    Hashes that differ in at most d bits differ in at most one bit in one of ⌈(d + 1) / 2⌉ bands, so each band is looked
    up as it is and with each of its bits inverted.
    """

    def __init__(self, hash_N: NDArray[np.uint64], max_distance: int, max_bucket: int) -> None:
        """Sort the hashes by each band.

        Args:
            max_distance: Largest number of different bits.
            max_bucket: Most hashes with the same band that one look-up compares; the first ones in order are.
        """
        self.hash_N, self.max_distance, self.max_bucket = hash_N, max_distance, max_bucket
        num_bands = (max_distance + 2) // 2
        edges = [HASH_BITS * band // num_bands for band in range(num_bands + 1)]
        self._bands = []
        for low, high in pairwise(edges):
            key_N = _cut_band(hash_N, low, high)
            order_N = np.argsort(key_N, kind="stable")
            self._bands.append((low, high, order_N, key_N[order_N]))

    def find(self, hash_M: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return indices in hash_M and of the index's hashes within the distance, each pair once, sorted; and a count.

        The count is that of comparisons which a full bucket prevented.
        """
        parts, num_skipped = [np.zeros((2, 0), np.int64)], 0
        for low, high, order_N, sorted_N in self._bands:
            key_M = _cut_band(hash_M, low, high)
            flips = np.concatenate([[0], 1 << np.arange(high - low, dtype=np.uint64)]).astype(np.uint64)
            for flip in flips:
                start_M = np.searchsorted(sorted_N, key_M ^ flip, "left")
                count_M = np.searchsorted(sorted_N, key_M ^ flip, "right") - start_M
                num_skipped += int((count_M - self.max_bucket).clip(0).sum())
                row_K, position_K = expand_ranges(start_M, count_M.clip(max=self.max_bucket))
                other_K = order_N[position_K]
                is_near_K = np.bitwise_count(hash_M[row_K] ^ self.hash_N[other_K]) <= self.max_distance
                parts.append(np.stack([row_K[is_near_K], other_K[is_near_K]]))
        pairs = np.unique(np.concatenate(parts, axis=1), axis=1)
        return pairs[0], pairs[1], num_skipped


def expand_ranges(
    start_M: NDArray[np.int64], count_M: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row and the position of each element of M ranges: start, start + 1, …, start + count − 1."""
    row_K = np.repeat(np.arange(len(start_M)), count_M)
    first_K = np.repeat(np.cumsum(count_M) - count_M, count_M)
    return row_K, start_M[row_K] + np.arange(len(row_K)) - first_K


def _cut_band(hash_N: NDArray[np.uint64], low: int, high: int) -> NDArray[np.uint64]:
    mask = np.uint64((1 << (high - low)) - 1)
    return (hash_N >> np.uint64(low)) & mask


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
