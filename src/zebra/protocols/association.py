"""Choice of the images that belong to a cue (WinoGAViL, Bitton et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError
from zebra.protocols.clustered_means import clustered_mean
from zebra.values import Score

MAX_FEW_CANDIDATES, MIN_MANY_CANDIDATES = 6, 10
"""Sizes of WinoGAViL's two settings: 5 or 6 candidates, and 10 or 12."""


@dataclass(frozen=True, slots=True)
class AssociationResult:
    """Chosen images of every question."""

    jaccard_N: NDArray[np.float64]
    """Jaccard index of the chosen and the associated images."""
    num_candidates_N: NDArray[np.int64]
    candidate_set_N: NDArray[np.int64]
    """Index of the set of candidates; questions on the same images have the same."""

    def scores(self) -> dict[str, Score]:
        """Return jaccard, and jaccard_5-6 and jaccard_10-12 for questions with as many candidates.

        The interval takes questions on the same set of images as one cluster.
        """
        few_N = self.num_candidates_N <= MAX_FEW_CANDIDATES
        many_N = self.num_candidates_N >= MIN_MANY_CANDIDATES
        parts = {"jaccard": np.ones_like(few_N), "jaccard_5-6": few_N, "jaccard_10-12": many_N}
        return {
            metric: clustered_mean(self.jaccard_N[part_N], self.candidate_set_N[part_N])
            for metric, part_N in parts.items()
            if part_N.any()
        }


def evaluate_associations(
    image_NE: NDArray[np.float32],
    cue_QE: NDArray[np.float32],
    candidates: Sequence[Sequence[int]],
    associated: Sequence[Sequence[int]],
) -> AssociationResult:
    """Choose for every cue as many candidates as are associated with it, by cosine similarity.

    Of equal similarities, an image that is not associated ranks first.

    Args:
        image_NE: One unit vector per image.
        cue_QE: One unit vector per question.
        candidates: Indices of the images of each question.
        associated: Those of them that belong to the cue, at least one.

    Raises:
        DataError: There are no questions, or vectors contain NaN or infinity.
    """
    if not len(cue_QE):
        raise DataError("cannot evaluate 0 associations: the dataset is empty")
    if not (np.isfinite(image_NE.sum()) and np.isfinite(cue_QE.sum())):
        raise DataError("image or cue vectors contain NaN or infinity. The model has diverged.")
    candidate_sets: dict[frozenset[int], int] = {}
    jaccard_N = []
    set_index_N = [candidate_sets.setdefault(frozenset(indices), len(candidate_sets)) for indices in candidates]
    for cue_E, indices, true_indices in zip(cue_QE, candidates, associated, strict=True):
        indices_K = np.asarray(indices)
        is_associated_K = np.isin(indices_K, true_indices)
        chosen = np.lexsort((is_associated_K, -(image_NE[indices_K] @ cue_E)))[: is_associated_K.sum()]
        num_hits = int(is_associated_K[chosen].sum())
        jaccard_N.append(num_hits / (2 * len(chosen) - num_hits))
    return AssociationResult(
        np.array(jaccard_N), np.array([len(indices) for indices in candidates]), np.array(set_index_N)
    )
