"""Retrieval of captions by picture and of pictures by caption (CLIP §3.1.5): vectors in, recall at 1, 5 and 10 out.

A picture may have several captions; it is found when any of them is among the best K. The tie rule is the
pessimist's: a wrong candidate that ties with the true one counts as ranked before it. So a caption whose very words
another picture has too is found at 2 at best, and a model that maps everything to one point scores 0, not 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError
from zebra.protocols.metrics import clustered_proportion, proportion
from zebra.values import Embeddings, Score

TEXTS_PER_BLOCK, IMAGES_PER_BLOCK = 2048, 2048
"""Scored against each other at once: no matrix grows with the set."""
TIE_TOLERANCE = 1e-6
"""Cosines closer than this are equal: it is what fp32 rounds away, differently on every machine."""


@dataclass(frozen=True, slots=True)
class RetrievalRanks:
    """Ranks counted from 1, on both ways."""

    text_rank_N: NDArray[np.int64]
    """For every picture, the rank of its best caption among the captions of other pictures."""
    image_rank_M: NDArray[np.int64]
    """For every caption, the rank of its picture."""
    image_of_text_M: NDArray[np.int64]
    num_ambiguous_captions: int
    """Captions whose vector belongs to another picture too: the tie rule counts against them."""

    def scores(self) -> dict[str, Score]:
        """Return recall at 1, 5 and 10 both ways; where all candidates would be among the best K it is left out.

        The captions of one picture are alike, so the interval over captions is that of a clustered sample.
        """
        n, m = len(self.text_rank_N), len(self.image_rank_M)
        scores = {
            f"image_to_text_recall@{k}": proportion(int((self.text_rank_N <= k).sum()), n)
            for k in (1, 5, 10)
            if k < m
        }
        return scores | {
            f"text_to_image_recall@{k}": clustered_proportion(self.image_rank_M <= k, self.image_of_text_M)
            for k in (1, 5, 10)
            if k < n
        }


def compute_retrieval_ranks(
    images: Embeddings, texts: Embeddings, image_of_text_M: NDArray[np.int64]
) -> RetrievalRanks:
    """Rank captions for every picture and pictures for every caption, by cosine similarity.

    Args:
        images: N pictures.
        texts: M captions, in any order.
        image_of_text_M: The position of the picture that each caption belongs to.

    Raises:
        DataError: A picture without a caption, a caption of an unknown picture, an empty set, vectors of two models,
            not of unit length, or NaN.
        ShapeError: The vectors are of different size, or image_of_text_M is not one number per caption.
    """
    image_NE, text_ME = images.vectors, texts.vectors
    _check_inputs(images, texts, image_of_text_M)
    # The score of the true pair, before anything is ranked against it: then one pass serves both ways.
    true_M = np.concatenate(
        [
            np.einsum("me,me->m", text_ME[block], image_NE[image_of_text_M[block]])
            for block in _split_blocks(len(text_ME), TEXTS_PER_BLOCK)
        ]
    )
    best_N = np.full(len(image_NE), -np.inf, dtype=np.float32)
    np.maximum.at(best_N, image_of_text_M, true_M)
    text_rank_N, image_rank_M = np.ones(len(image_NE), dtype=np.int64), np.ones(len(text_ME), dtype=np.int64)
    for rows in _split_blocks(len(text_ME), TEXTS_PER_BLOCK):
        own_B = image_of_text_M[rows]
        for columns in _split_blocks(len(image_NE), IMAGES_PER_BLOCK):
            score_BB = text_ME[rows] @ image_NE[columns].T
            # A caption and its own picture are not rivals, on either way.
            here = np.flatnonzero((columns.start <= own_B) & (own_B < columns.stop))
            score_BB[here, own_B[here] - columns.start] = -np.inf
            image_rank_M[rows] += np.count_nonzero(score_BB >= true_M[rows, None] - TIE_TOLERANCE, axis=1)
            text_rank_N[columns] += np.count_nonzero(score_BB >= best_N[columns] - TIE_TOLERANCE, axis=0)
    return RetrievalRanks(
        text_rank_N, image_rank_M, image_of_text_M, _count_ambiguous_captions(text_ME, image_of_text_M)
    )


def _split_blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _count_ambiguous_captions(text_ME: NDArray[np.float32], image_of_text_M: NDArray[np.int64]) -> int:
    words_M = np.fromiter((hash(vector_E.tobytes()) for vector_E in text_ME), np.int64, len(text_ME))
    pairs_P2 = np.unique(np.stack([words_M, image_of_text_M], axis=1), axis=0)
    words_U, pictures_U = np.unique(pairs_P2[:, 0], return_counts=True)
    return int(np.isin(words_M, words_U[pictures_U > 1]).sum())


def _check_inputs(images: Embeddings, texts: Embeddings, image_of_text_M: NDArray[np.int64]) -> None:
    n, m = len(images.vectors), len(texts.vectors)
    if images.vectors.shape[1] != texts.vectors.shape[1]:
        raise ShapeError(f"pictures {images.vectors.shape} and captions {texts.vectors.shape} differ in E")
    if image_of_text_M.shape != (m,):
        raise ShapeError(
            f"image_of_text_M {image_of_text_M.shape} must name one picture for each of {m} captions"
        )
    if not n or not m:
        raise DataError(f"retrieval needs pictures and captions, not {n} and {m}; the data set is empty")
    if images.fingerprint != texts.fingerprint:
        raise DataError(
            f"pictures were embedded by the model {images.fingerprint!r}, captions by {texts.fingerprint!r}; "
            "embed both with one"
        )
    unknown = np.flatnonzero((image_of_text_M < 0) | (image_of_text_M >= n))
    if len(unknown):
        raise DataError(
            f"{len(unknown)} captions belong to no picture of the set: {texts.ids[unknown[0]]} names number "
            f"{image_of_text_M[unknown[0]]} of {n}"
        )
    silent = np.flatnonzero(np.bincount(image_of_text_M, minlength=n) == 0)
    if len(silent):
        raise DataError(
            f"{len(silent)} pictures have no caption, such as {images.ids[silent[0]]}; it could never be found: "
            "leave it out or caption it"
        )
    for what, vectors, ids in (
        ("picture", images.vectors, images.ids),
        ("caption", texts.vectors, texts.ids),
    ):
        off_N = ~(np.abs(np.einsum("ne,ne->n", vectors, vectors) - 1) < 1e-3)
        if off_N.any():
            first = int(off_N.argmax())
            raise DataError(
                f"the vector of {what} {ids[first]} has length {np.linalg.norm(vectors[first]):.4g}, not 1 "
                "(normalise it; NaN comes from a model that diverged)"
            )
