"""Compositionality: matching images with captions that differ only in a detail.

A question has images and captions, and says which belong together: one image with right and wrong captions (SugarCrepe,
ARO), or two images with a caption each (Winoground). Ties count as wrong.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError, ShapeError

QUESTIONS_PER_BLOCK = 4096
"""Questions whose vectors are in memory twice."""
Compare = Callable[[NDArray[np.float64], NDArray[np.float64]], Any]


@dataclass(frozen=True, slots=True)
class Choices:
    """The questions that a model answers correctly, by score.

    accuracy: For one image, all right captions match it better than all wrong ones.
    text, image, group: For several images, each matches its own caption better than the others (text), each caption
        matches its own image better than the others (image), or both.
    text_only: Two right captions are more similar to one another than to a wrong one (SugarCrepe++); no image is used.
    blind_accuracy: As accuracy, with the mean of all images in place of the image. Above chance, captions are
        recognized as wrong without looking.
    """

    correct: Mapping[str, NDArray[np.bool_]]
    """Score → bool [N]."""
    tied: Mapping[str, NDArray[np.bool_]]
    """Score → bool [N]: whether the answer would be correct if ties counted as correct, and is not."""
    chance: Mapping[str, float]
    """Score → its value for random similarities."""


def evaluate_choices(
    image_ME: NDArray[np.float32],
    caption_KE: NDArray[np.float32],
    image_index_NI: NDArray[np.int64],
    caption_index_NC: NDArray[np.int64],
    image_of_caption: Sequence[int | None],
) -> Choices:
    """Answer N questions of one form.

    Args:
        image_ME: M images.
        caption_KE: K captions.
        image_index_NI: The I images of each question.
        caption_index_NC: The C captions of each question.
        image_of_caption: For each of the C captions, the position of its image among the I; None for a wrong caption.

    Raises:
        DataError: There are no questions, or vectors with NaN.
        ShapeError: The vectors differ in width, or the indices in number.
    """
    if image_ME.ndim != 2 or caption_KE.ndim != 2 or image_ME.shape[1] != caption_KE.shape[1]:
        raise ShapeError(f"images {image_ME.shape} and captions {caption_KE.shape} must be [M, E] and [K, E]")
    if len(image_index_NI) != len(caption_index_NC) or caption_index_NC.shape[1] != len(image_of_caption):
        raise ShapeError(
            f"images {image_index_NI.shape}, captions {caption_index_NC.shape} and {len(image_of_caption)} positions "
            "of images must be [N, I], [N, C] and C"
        )
    if not len(image_index_NI):
        raise DataError("cannot evaluate compositionality on 0 questions: the dataset is empty")
    if not (np.isfinite(image_ME.sum()) and np.isfinite(caption_KE.sum())):
        raise DataError("image or caption vectors contain NaN or infinity. The model has diverged.")
    match_IC = np.array([[own == image for own in image_of_caption] for image in range(image_index_NI.shape[1])])
    score_NIC = _similarities(image_ME, caption_KE, image_index_NI, caption_index_NC)
    if len(match_IC) > 1:
        strict, lenient = (_match_images(score_NIC, match_IC, compare) for compare in (np.greater, np.greater_equal))
    else:
        mean_1E = image_ME.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        blind_NIC = _similarities(mean_1E, caption_KE, np.zeros_like(image_index_NI), caption_index_NC)
        text_NCC = (
            _similarities(caption_KE, caption_KE, caption_index_NC, caption_index_NC) if match_IC.sum() == 2 else None
        )
        strict, lenient = (
            _choose_captions(score_NIC, blind_NIC, text_NCC, match_IC, compare)
            for compare in (np.greater, np.greater_equal)
        )
    tied = {name: lenient[name] & ~strict[name] for name in strict}
    chance = _chance(match_IC)
    return Choices(strict, tied, {name: chance[name] for name in strict if name in chance})


def _choose_captions(
    score_N1C: NDArray[np.float64],
    blind_N1C: NDArray[np.float64],
    text_NCC: NDArray[np.float64] | None,
    match_1C: NDArray[np.bool_],
    compare: Compare,
) -> dict[str, NDArray[np.bool_]]:
    """Answer questions on one image.

    Args:
        text_NCC: Similarities of the captions, if two of them are right.
    """
    correct = {"accuracy": _prefer_own(score_N1C, match_1C, compare)}
    if text_NCC is not None:
        right, wrong = np.flatnonzero(match_1C[0]), np.flatnonzero(~match_1C[0])
        correct["text_only"] = compare(
            text_NCC[:, right[0], right[1]], text_NCC[:, right][:, :, wrong].max(axis=(1, 2))
        )
    return correct | {"blind_accuracy": _prefer_own(blind_N1C, match_1C, compare)}


def _match_images(
    score_NIC: NDArray[np.float64], match_IC: NDArray[np.bool_], compare: Compare
) -> dict[str, NDArray[np.bool_]]:
    text_N = _prefer_own(score_NIC, match_IC, compare)
    image_N = _prefer_own(score_NIC.transpose(0, 2, 1), match_IC.T, compare)
    return {"text": text_N, "image": image_N, "group": text_N & image_N}


def _prefer_own(score_NIC: NDArray[np.float64], match_IC: NDArray[np.bool_], compare: Compare) -> NDArray[np.bool_]:
    """Return whether each of the I scores all of its own of the C higher than all others."""
    preferred_N = np.ones(len(score_NIC), dtype=np.bool_)
    for image, own_C in enumerate(match_IC):
        if own_C.any() and not own_C.all():
            score_NC = score_NIC[:, image]
            preferred_N &= compare(score_NC[:, own_C].min(axis=1), score_NC[:, ~own_C].max(axis=1))
    return preferred_N


def _similarities(
    left_ME: NDArray[np.float32],
    right_KE: NDArray[np.float32],
    left_index_NI: NDArray[np.int64],
    right_index_NC: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the dot products [N, I, C] of selected rows."""
    # float64 makes the products exact, so captions tie only if their vectors are equal.
    blocks = [
        np.einsum("nie,nce->nic", left_ME[left], right_KE[right], dtype=np.float64)
        for start in range(0, len(left_index_NI), QUESTIONS_PER_BLOCK)
        for left, right in [
            (left_index_NI[start : start + QUESTIONS_PER_BLOCK], right_index_NC[start : start + QUESTIONS_PER_BLOCK])
        ]
    ]
    return np.concatenate(blocks)


def _chance(match_IC: NDArray[np.bool_]) -> dict[str, float]:
    """Return the probability of each score for independent similarities without ties."""
    text, image = (
        math.prod(1 / math.comb(len(own), int(own.sum())) for own in match if own.any())
        for match in (match_IC, match_IC.T)
    )
    chance = {"accuracy": text, "text": text, "image": image, "text_only": 1 / 3, "blind_accuracy": text}
    # Of two images and two captions, the two right similarities are the highest of four in 1 of 6 orders.
    return chance | ({"group": 1 / 6} if match_IC.shape == (2, 2) else {})
