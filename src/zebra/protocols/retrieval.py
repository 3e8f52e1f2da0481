"""Image-text retrieval: recall at 1, 5 and 10 in both directions (CLIP App. E.1).

An image may have several captions; it counts as retrieved if any of them is among the top K. Ties are resolved against
the model: a wrong candidate with the same score ranks before the true one. A caption that also belongs to another image
therefore has rank 2 at best, and a model that maps everything to one point has recall 0, not 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError
from zebra.protocols.clustered_means import score_from_residuals
from zebra.protocols.metrics import clustered_proportion, proportion
from zebra.values import Embeddings, Score

TEXTS_PER_BLOCK, IMAGES_PER_BLOCK = 2048, 2048
"""Size of a block of the score matrix, so that memory does not grow with the dataset."""
TIE_TOLERANCE = 1e-6
"""Cosines closer than this count as equal; the rounding of fp32 differs between machines."""


@dataclass(frozen=True, slots=True)
class RetrievalRanks:
    """Ranks in both directions, starting at 1."""

    text_rank_N: NDArray[np.int64]
    """For every image, the rank of its best caption among the captions of other images."""
    image_rank_M: NDArray[np.int64]
    """For every caption, the rank of its image."""
    image_of_text_M: NDArray[np.int64]
    own_text_N: NDArray[np.int64]
    """For every image, its own caption with the highest score."""
    other_text_N: NDArray[np.int64]
    """For every image, the caption of another image with the highest score; -1 if there is no other image."""
    num_ambiguous_captions: int
    """Captions whose vector also belongs to another image; the tie rule counts against them."""

    @property
    def retrieved_text_N(self) -> NDArray[np.int64]:
        """For every image, the caption that is retrieved first."""
        text_N: NDArray[np.int64] = np.where(self.text_rank_N == 1, self.own_text_N, self.other_text_N)
        return text_N

    def scores(self) -> dict[str, Score]:
        """Return recall at 1, 5 and 10 in both directions, for each K below the number of candidates.

        The captions of one image are similar, so the interval over captions is that of a clustered sample.
        """
        n, m = len(self.text_rank_N), len(self.image_rank_M)
        scores = {
            f"image_to_text_recall@{k}": proportion(int((self.text_rank_N <= k).sum()), n) for k in (1, 5, 10) if k < m
        }
        return scores | {
            f"text_to_image_recall@{k}": clustered_proportion(self.image_rank_M <= k, self.image_of_text_M)
            for k in (1, 5, 10)
            if k < n
        }

    def mean_recall_at_1(self) -> Score:
        """Return the mean of recall at 1 in both directions; for its interval, an image and its captions are one."""
        n, m = len(self.text_rank_N), len(self.image_rank_M)
        text_hit_N, image_hit_M = self.text_rank_N == 1, self.image_rank_M == 1
        image_residual_N = np.bincount(self.image_of_text_M, weights=image_hit_M - image_hit_M.mean(), minlength=n)
        residual_N = (text_hit_N - text_hit_N.mean()) / (2 * n) + image_residual_N / (2 * m)
        return score_from_residuals(float(text_hit_N.mean() + image_hit_M.mean()) / 2, residual_N, n)


def compute_retrieval_ranks(
    images: Embeddings, texts: Embeddings, image_of_text_M: NDArray[np.int64]
) -> RetrievalRanks:
    """Rank captions for every image and images for every caption, by cosine similarity.

    Args:
        images: N images.
        texts: M captions, in any order.
        image_of_text_M: Index of the image that each caption belongs to.

    Raises:
        DataError: An image without a caption, a caption without an image, an empty dataset, vectors of two models, or
            vectors that are not unit vectors.
        ShapeError: Vectors differ in dimension, or image_of_text_M does not have one entry per caption.
    """
    image_NE, text_ME = images.vectors, texts.vectors
    _check_inputs(images, texts, image_of_text_M)
    # With the scores of the true pairs known in advance, one pass computes the ranks of both directions.
    true_M = np.concatenate(
        [
            np.einsum("me,me->m", text_ME[block], image_NE[image_of_text_M[block]])
            for block in _split_blocks(len(text_ME), TEXTS_PER_BLOCK)
        ]
    )
    best_N = np.full(len(image_NE), -np.inf, dtype=np.float32)
    np.maximum.at(best_N, image_of_text_M, true_M)
    own_text_N = np.zeros(len(image_NE), dtype=np.int64)
    by_score = np.argsort(true_M, kind="stable")
    own_text_N[image_of_text_M[by_score]] = by_score  # the last assignment, of the highest score, wins
    other_text_N, other_N = np.full(len(image_NE), -1), np.full(len(image_NE), -np.inf, dtype=np.float32)
    text_rank_N, image_rank_M = np.ones(len(image_NE), dtype=np.int64), np.ones(len(text_ME), dtype=np.int64)
    for rows in _split_blocks(len(text_ME), TEXTS_PER_BLOCK):
        image_index_B = image_of_text_M[rows]
        for columns in _split_blocks(len(image_NE), IMAGES_PER_BLOCK):
            score_BB = text_ME[rows] @ image_NE[columns].T
            # The true pair does not compete with itself.
            in_block = np.flatnonzero((columns.start <= image_index_B) & (image_index_B < columns.stop))
            score_BB[in_block, image_index_B[in_block] - columns.start] = -np.inf
            image_rank_M[rows] += np.count_nonzero(score_BB >= true_M[rows, None] - TIE_TOLERANCE, axis=1)
            text_rank_N[columns] += np.count_nonzero(score_BB >= best_N[columns] - TIE_TOLERANCE, axis=0)
            score_B = score_BB.max(axis=0)
            higher = np.flatnonzero(score_B > other_N[columns])
            other_N[columns][higher] = score_B[higher]
            other_text_N[columns][higher] = rows.start + score_BB[:, higher].argmax(axis=0)
    num_ambiguous = _count_ambiguous_captions(text_ME, image_of_text_M)
    return RetrievalRanks(text_rank_N, image_rank_M, image_of_text_M, own_text_N, other_text_N, num_ambiguous)


def match_in_batches(
    image_NE: NDArray[np.float32], text_NE: NDArray[np.float32], batch_size: int, cluster_N: NDArray[np.int64]
) -> Score:
    """Return how often the caption of an image is better than those of the other images of its batch (DCI).

    A batch has `batch_size` consecutive images, the last one perhaps fewer. A tie counts against the model.

    Args:
        image_NE: Unit vectors of images.
        text_NE: Unit vector of the caption of each image.
        batch_size: Number of images whose captions compete.
        cluster_N: Cluster of each image, such as the photo that it is a crop of.
    """
    hit_N = np.empty(len(image_NE), dtype=np.bool_)
    for rows in _split_blocks(len(image_NE), batch_size):
        score_BB = image_NE[rows] @ text_NE[rows].T
        true_B = np.diagonal(score_BB).copy()
        np.fill_diagonal(score_BB, -np.inf)
        hit_N[rows] = score_BB.max(axis=1) < true_B - TIE_TOLERANCE
    return clustered_proportion(hit_N, cluster_N)


def _split_blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _count_ambiguous_captions(text_ME: NDArray[np.float32], image_of_text_M: NDArray[np.int64]) -> int:
    hash_M = np.fromiter((hash(vector_E.tobytes()) for vector_E in text_ME), np.int64, len(text_ME))
    pairs_P2 = np.unique(np.stack([hash_M, image_of_text_M], axis=1), axis=0)
    hash_U, num_images_U = np.unique(pairs_P2[:, 0], return_counts=True)
    return int(np.isin(hash_M, hash_U[num_images_U > 1]).sum())


def _check_inputs(images: Embeddings, texts: Embeddings, image_of_text_M: NDArray[np.int64]) -> None:
    n, m = len(images.vectors), len(texts.vectors)
    if images.vectors.shape[1] != texts.vectors.shape[1]:
        raise ShapeError(
            f"image vectors {images.vectors.shape} and caption vectors {texts.vectors.shape} differ in dimension"
        )
    if image_of_text_M.shape != (m,):
        raise ShapeError(
            f"image_of_text_M must have one image index for each of {m} captions; got shape {image_of_text_M.shape}"
        )
    if not n or not m:
        raise DataError(f"retrieval needs images and captions; got {n} images and {m} captions")
    if images.fingerprint != texts.fingerprint:
        raise DataError(
            f"images were embedded with the model {images.fingerprint!r}, captions with {texts.fingerprint!r}. "
            "Use one model for both."
        )
    unknown = np.flatnonzero((image_of_text_M < 0) | (image_of_text_M >= n))
    if len(unknown):
        raise DataError(
            f"the caption {texts.ids[unknown[0]]} belongs to image {image_of_text_M[unknown[0]]}, but there are only "
            f"{n} images. {len(unknown)} captions have such an index."
        )
    uncaptioned = np.flatnonzero(np.bincount(image_of_text_M, minlength=n) == 0)
    if len(uncaptioned):
        raise DataError(
            f"{len(uncaptioned)} images have no caption, such as {images.ids[uncaptioned[0]]}. Add captions or leave "
            "these images out."
        )
    for kind, vectors, ids in (("image", images.vectors, images.ids), ("caption", texts.vectors, texts.ids)):
        is_invalid_N = ~(np.abs(np.einsum("ne,ne->n", vectors, vectors) - 1) < 1e-3)
        if is_invalid_N.any():
            first = int(is_invalid_N.argmax())
            raise DataError(
                f"the vector of {kind} {ids[first]} has norm {np.linalg.norm(vectors[first]):.4g}, not 1. Normalize "
                "it; NaN means that the model has diverged."
            )
