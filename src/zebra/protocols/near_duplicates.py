"""Near duplicates of evaluation images among training images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.images.perceptual_hash import HASH_BITS, find_hash_pairs, find_nearest_hashes

MAX_HASH_DISTANCE = 2
"""Largest number of different bits between the hashes of duplicates."""
FALSE_POSITIVE_RATE = 0.01
"""Target share of clean images that the threshold marks as duplicates; the paper chose its thresholds by eye."""


@dataclass(frozen=True, slots=True)
class ImageSignatures:
    """Signatures of N images, which near duplicates share, in V views, such as with and without borders."""

    vector_VNE: NDArray[np.float32]
    """Unit vectors of the duplicate detector."""
    hash_VN: NDArray[np.uint64]
    mirrored_hash_VN: NDArray[np.uint64]
    """Hashes of the mirrored images."""

    def cosines(self, other: "ImageSignatures") -> NDArray[np.float32]:
        """Return the cosines [N, M] with other images, each in the view in which both are nearest."""
        products = [
            first_NE @ second_ME.T for first_NE, second_ME in zip(self.vector_VNE, other.vector_VNE, strict=True)
        ]
        cosine_NM: NDArray[np.float32] = np.maximum.reduce(products)
        return cosine_NM

    def paired_hashes(self, other: "ImageSignatures") -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
        """Yield the hashes [N] and [M] to compare: in each view, as they are and mirrored."""
        for view, other_hash_M in enumerate(other.hash_VN):
            yield self.hash_VN[view], other_hash_M
            yield self.mirrored_hash_VN[view], other_hash_M


def concatenate_signatures(blocks: Sequence[ImageSignatures]) -> ImageSignatures:
    """Join the signatures of at least one block of images."""
    return ImageSignatures(
        np.concatenate([block.vector_VNE for block in blocks], axis=1),
        np.concatenate([block.hash_VN for block in blocks], axis=1),
        np.concatenate([block.mirrored_hash_VN for block in blocks], axis=1),
    )


class NearestTrainImages:
    """The nearest training image of each evaluation image, over blocks of training images."""

    def __init__(self, images: ImageSignatures) -> None:
        n = images.hash_VN.shape[1]
        self.images = images
        self.cosine_N = np.full(n, -1, np.float32)
        self.location_N = [""] * n
        self.hash_distance_N = np.full(n, HASH_BITS + 1)

    def update(self, train: ImageSignatures, locations: Sequence[str]) -> None:
        """Compare the evaluation images with a block of training images."""
        cosine_NM = self.images.cosines(train)
        column_N = cosine_NM.argmax(axis=1)
        cosine_N = cosine_NM[np.arange(len(column_N)), column_N]
        for row in np.flatnonzero(cosine_N > self.cosine_N).tolist():
            self.cosine_N[row], self.location_N[row] = cosine_N[row], locations[column_N[row]]
        for hash_N, train_hash_M in self.images.paired_hashes(train):
            self.hash_distance_N = np.minimum(self.hash_distance_N, find_nearest_hashes(hash_N, train_hash_M)[0])

    def find_duplicates(self, threshold: float) -> NDArray[np.bool_]:
        """Return whether each image is a duplicate: by its cosine, or by its hash."""
        return (self.cosine_N >= threshold) | (self.hash_distance_N <= MAX_HASH_DISTANCE)


class ThresholdProbes:
    """Training images and, for each, the cosine of the nearest different training image.

    They stand for clean evaluation images of the same kind, so they are not distorted. Training images with the hash
    of a probe, which are copies of it, do not count as different.

    Args:
        images: Signatures of S training images.
        locations: Their locations.
    """

    def __init__(self, images: ImageSignatures, locations: Sequence[str]) -> None:
        self.images, self.location_S = images, np.array(locations)
        self.max_other_cosine_S = np.full(len(locations), -1, np.float32)

    def update(self, train: ImageSignatures, locations: Sequence[str]) -> None:
        """Compare the probes with a block of training images."""
        cosine_SM = self.images.cosines(train)
        cosine_SM[self.location_S[:, None] == np.array(locations)] = -1
        for hash_S, train_hash_M in self.images.paired_hashes(train):
            probe_P, column_P, _ = find_hash_pairs(hash_S, train_hash_M, MAX_HASH_DISTANCE)
            cosine_SM[probe_P, column_P] = -1
        self.max_other_cosine_S = np.maximum(self.max_other_cosine_S, cosine_SM.max(axis=1))

    def compute_threshold(self) -> float:
        """Return the cosine that only `FALSE_POSITIVE_RATE` of the probes reach with a different image.

        Returns 1 if all training images are copies of one image.
        """
        cosine_S = self.max_other_cosine_S[self.max_other_cosine_S > -1]
        return float(np.quantile(cosine_S, 1 - FALSE_POSITIVE_RATE)) if len(cosine_S) else 1.0
