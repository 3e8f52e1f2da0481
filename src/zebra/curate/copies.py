"""Near duplicates among images: the same image rescaled, recompressed or cropped.

Candidates come from two indexes: perceptual hashes within a few bits, and local features that agree on a scale and a
shift. Each candidate is compared on thumbnails, so the indexes need not be precise. A copy is compared with images that
are kept only: copies of copies form no chains.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.curate.signatures import Placement, Signature, is_copy
from zebra.images.local_features import FEATURE_DTYPE, LEVEL_RATIO
from zebra.images.perceptual_hash import PerceptualHashIndex, expand_ranges

MAX_HASH_DISTANCE = 5
"""Most bits in which the hashes of candidates differ."""
MAX_BUCKET = 256
"""Most hashes with an equal band that one look-up compares."""
MAX_WORD_FEATURES, MAX_COMMON_WORD = 32, 1024
"""Most features of a word that are compared; a word with more features than the second is ignored altogether."""
MIN_AGREEING_FEATURES = 2
CELL_SIDE = 16.0
"""Width and height of the cells in which features must agree on the shift, of FEATURE_SIDE."""
IMAGES_PER_BLOCK = 64
"""Images that are looked up at a time: bounds the memory for votes."""

CopyKind = Literal["same", "crop"]
Candidate = tuple[int, int, Placement | None]
"""Row of a query, index of a reference, and the place of the reference; None if whole images are to be compared."""


class CopyIndex:
    """Finds candidates for copies of given images among M images, the references."""

    def __init__(self, references: Sequence[Signature], max_hash_distance: int = MAX_HASH_DISTANCE) -> None:
        """Sort hashes and features; they take 21 bytes per feature."""
        self.num_skipped = 0
        """Comparisons of hashes that full buckets have prevented so far."""
        self._hashes = PerceptualHashIndex(_collect_hashes(references), max_hash_distance, MAX_BUCKET)
        features_K, image_K = _concatenate_features(references)
        order_K = np.argsort(features_K["word"], kind="stable")
        self._features_K, self._image_K = features_K[order_K], image_K[order_K]
        self._word_K = np.ascontiguousarray(self._features_K["word"])

    def find(self, queries: Sequence[Signature], is_searched_M: NDArray[np.bool_] | None = None) -> list[Candidate]:
        """Return the candidates of some images, sorted by row.

        Args:
            is_searched_M: References to search; by default all.
        """
        row_C, reference_C, num_skipped = self._hashes.find(_collect_hashes(queries))
        self.num_skipped += num_skipped
        if is_searched_M is not None:
            row_C, reference_C = (values_C[is_searched_M[reference_C]] for values_C in (row_C, reference_C))
        candidates: list[Candidate] = [(*pair, None) for pair in zip(row_C.tolist(), reference_C.tolist(), strict=True)]
        candidates += self._find_placed(queries, is_searched_M)
        return sorted(candidates, key=lambda candidate: candidate[0])

    def _find_placed(self, queries: Sequence[Signature], is_searched_M: NDArray[np.bool_] | None) -> list[Candidate]:
        features_Q, row_Q = _concatenate_features(queries)
        word_Q = np.ascontiguousarray(features_Q["word"])
        start_Q = np.searchsorted(self._word_K, word_Q, "left")
        count_Q = np.searchsorted(self._word_K, word_Q, "right") - start_Q
        count_Q[count_Q > MAX_COMMON_WORD] = 0
        query_V, position_V = expand_ranges(start_Q, count_Q.clip(max=MAX_WORD_FEATURES))
        image_V = self._image_K[position_V]
        if is_searched_M is not None:
            is_searched_V = is_searched_M[image_V]
            query_V, position_V, image_V = query_V[is_searched_V], position_V[is_searched_V], image_V[is_searched_V]
        return _vote(features_Q[query_V], row_Q[query_V], self._features_K[position_V], image_V)


@dataclass(frozen=True, slots=True)
class Originals:
    """Which of N images are copies of which."""

    original_N: NDArray[np.int64]
    """Index of the image that an image is a copy of; its own if it is none."""
    kind_N: list[CopyKind | None]
    """Whether a copy shows the same part, or one is a crop of the other; None for images that are no copies."""
    num_skipped: int
    """Comparisons that full buckets have prevented; some copies may be missing if it is not 0."""


def find_originals(
    signatures: Sequence[Signature],
    max_hash_distance: int = MAX_HASH_DISTANCE,
    callback: Callable[[int, int], None] = lambda _done, _total: None,
) -> Originals:
    """Return for each image the earlier one that it is a copy of and that is no copy itself.

    Args:
        signatures: Signatures of the images, those to be kept first.
        callback: Called with the number of images done and their total.
    """
    index = CopyIndex(signatures, max_hash_distance)
    original_N = np.arange(len(signatures))
    kind_N: list[CopyKind | None] = [None] * len(signatures)
    is_kept_N = np.zeros(len(signatures), np.bool_)
    for start in range(0, len(signatures), IMAGES_PER_BLOCK):
        callback(start, len(signatures))
        is_kept_N[start : start + IMAGES_PER_BLOCK] = True
        for row, reference, placement in index.find(signatures[start : start + IMAGES_PER_BLOCK], is_kept_N):
            image = start + row
            is_candidate = reference < image and is_kept_N[reference] and is_kept_N[image]
            if is_candidate and is_copy(signatures[image], signatures[reference], placement):
                original_N[image], kind_N[image] = reference, "crop" if placement else "same"
                is_kept_N[image] = False
    callback(len(signatures), len(signatures))
    return Originals(original_N, kind_N, index.num_skipped)


def group_copies(signatures: Sequence[Signature], max_hash_distance: int = MAX_HASH_DISTANCE) -> NDArray[np.int64]:
    """Return the first image of the group of each image; a chain of copies is one group."""
    index = CopyIndex(signatures, max_hash_distance)
    parent_N = np.arange(len(signatures))

    def find_root(image: int) -> int:
        while (parent := int(parent_N[image])) != image:
            parent_N[image] = parent_N[parent]
            image = parent
        return image

    for start in range(0, len(signatures), IMAGES_PER_BLOCK):
        for row, reference, placement in index.find(signatures[start : start + IMAGES_PER_BLOCK]):
            first, second = find_root(start + row), find_root(reference)
            if first != second and is_copy(signatures[start + row], signatures[reference], placement):
                parent_N[max(first, second)] = min(first, second)
    return np.array([find_root(image) for image in range(len(signatures))], np.int64)


def _vote(
    query_V: NDArray[np.void], row_V: NDArray[np.int64], reference_V: NDArray[np.void], image_V: NDArray[np.int64]
) -> list[Candidate]:
    """Return the place on which most of the V pairs of features agree, for each two images."""
    level_V = query_V["level"].astype(np.int64) - reference_V["level"]
    scale_V = LEVEL_RATIO**level_V
    left_V = query_V["x"] - scale_V * reference_V["x"]
    top_V = query_V["y"] - scale_V * reference_V["y"]
    num_rows = int(row_V.max(initial=0)) + 1
    best: dict[tuple[int, int], tuple[int, Placement]] = {}
    for offset in (0.0, 0.5):  # two grids, so that close shifts are in one cell of either
        cells = [np.floor(values_V / CELL_SIDE + offset).astype(np.int64) + 64 for values_V in (left_V, top_V)]
        key_V = (((image_V * num_rows + row_V) * 16 + level_V + 8) * 128 + cells[0]) * 128 + cells[1]
        _, first_C, inverse_V, count_C = np.unique(key_V, return_index=True, return_inverse=True, return_counts=True)
        sums = [np.bincount(inverse_V, values_V, len(count_C)) for values_V in (left_V, top_V)]
        for c in np.flatnonzero(count_C >= MIN_AGREEING_FEATURES).tolist():
            first, count = int(first_C[c]), int(count_C[c])
            pair = (int(row_V[first]), int(image_V[first]))
            if count > best.get(pair, (0,))[0]:
                best[pair] = (count, Placement(float(scale_V[first]), *(float(values[c]) / count for values in sums)))
    return [(*pair, placement) for pair, (_, placement) in sorted(best.items(), key=lambda item: -item[1][0])]


def _collect_hashes(signatures: Sequence[Signature]) -> NDArray[np.uint64]:
    return np.array([signature.hash for signature in signatures], np.uint64)


def _concatenate_features(signatures: Sequence[Signature]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    features = [np.zeros(0, FEATURE_DTYPE), *(signature.features for signature in signatures)]
    return np.concatenate(features), np.repeat(np.arange(len(signatures)), list(map(len, features[1:])))
