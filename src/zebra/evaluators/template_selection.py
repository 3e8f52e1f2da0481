"""Choice of a model's prompt templates on held-out captions.

A template suits a model if its prompts are like the captions that the model was trained on. "a photo of a {}." ruins
the scores of a model whose captions are bare names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zebra.pretrained.bundle import Bundle
from zebra.protocols.retrieval import TIE_TOLERANCE
from zebra.text.caption_frames import strip_frame
from zebra.text.templates import fill_template
from zebra.values import Embeddings

COMMON_TEMPLATES = ("{}", "{}.", "a {}", "a {}.", "a photo of a {}.", "a photo of {}.", "a picture of a {}.")
"""Templates that are tried besides the frames of the captions, the bare name first."""
MAX_LABELS = 500
"""Number of different labels, which are the fillers of the frames; more would only take time."""
MIN_LABELS = 10
"""With fewer labels, nothing is chosen."""


@dataclass(frozen=True, slots=True)
class TemplateSelection:
    """The chosen templates and what the choice is based on."""

    templates: tuple[str, ...]
    """In the order of their selection; a class vector is the mean over all of them."""
    mean_reciprocal_rank: float
    """Of the chosen templates together; biased upwards, because they were chosen by it."""
    candidates: Mapping[str, float]
    """The mean reciprocal rank of each template alone, best first."""
    num_images: int
    num_labels: int


def select_templates(
    clip: Bundle, images: Embeddings, captions: Sequence[str], image_indices: Sequence[int], frames: Sequence[str]
) -> TemplateSelection | None:
    """Choose templates by how well held-out images find what their captions say.

    The label of an image is its caption without its frame: "dog" for "a photo of a dog.". Templates are added one by
    one, each time the one with the highest mean reciprocal rank of the true label among all labels, until none raises
    it. Of equal templates, the bare name and then the more frequent frame wins.

    Args:
        clip: The model.
        images: Unit vectors of held-out images.
        captions: Their captions.
        image_indices: For each caption, the position of its image.
        frames: Frames of these captions; see `find_caption_frames`.

    Returns:
        The choice; None with fewer than MIN_LABELS different labels.
    """
    label_of_caption = [strip_frame(caption, frames) for caption in captions]
    labels = list(dict.fromkeys(label_of_caption))[:MAX_LABELS]
    if len(labels) < MIN_LABELS:
        return None
    class_of_label = {label: index for index, label in enumerate(labels)}
    pairs = [
        (image, class_of_label[label])
        for image, label in zip(image_indices, label_of_caption, strict=True)
        if label in class_of_label
    ]
    image_P, class_P = np.array(pairs).T
    templates = tuple(dict.fromkeys((COMMON_TEMPLATES[0], *frames, *COMMON_TEMPLATES)))
    prompts = [fill_template(template, label) for template in templates for label in labels]
    template_TCE = clip.encode_texts(prompts).numpy().reshape(len(templates), len(labels), -1)
    chosen, alone_T, score = _add_greedily(images.vectors[image_P], class_P, template_TCE)
    candidates = {templates[t]: float(alone_T[t]) for t in np.argsort(-alone_T, kind="stable")}
    return TemplateSelection(
        tuple(templates[t] for t in chosen), score, candidates, len(set(image_P.tolist())), len(labels)
    )


def _add_greedily(
    image_PE: NDArray[np.float32], class_P: NDArray[np.int64], template_TCE: NDArray[np.float32]
) -> tuple[list[int], NDArray[np.float64], float]:
    """Return the chosen templates, the score of each template alone, and that of the chosen ones together."""
    similarity_TPC = image_PE @ template_TCE.transpose(0, 2, 1)
    alone_T = np.array([_mean_reciprocal_rank(similarity_PC, class_P) for similarity_PC in similarity_TPC])
    chosen: list[int] = []
    best_score, sum_PC, sum_CE = -np.inf, np.zeros_like(similarity_TPC[0]), np.zeros_like(template_TCE[0])
    while len(chosen) < len(template_TCE):
        score_T = np.full(len(template_TCE), -np.inf)
        for t in set(range(len(template_TCE))) - set(chosen):
            norm_C = np.linalg.norm(sum_CE + template_TCE[t], axis=1)
            score_T[t] = _mean_reciprocal_rank((sum_PC + similarity_TPC[t]) / norm_C, class_P)
        t = int(score_T.argmax())
        if score_T[t] <= best_score:
            break
        chosen.append(t)
        best_score, sum_PC, sum_CE = float(score_T[t]), sum_PC + similarity_TPC[t], sum_CE + template_TCE[t]
    return chosen, alone_T, best_score


def _mean_reciprocal_rank(score_PC: NDArray[np.float32], class_P: NDArray[np.int64]) -> float:
    """Return the mean of 1 / rank of the true class; equal scores of wrong classes rank before it."""
    true_P1 = np.take_along_axis(score_PC, class_P[:, None], axis=1)
    rank_P = (score_PC >= true_P1 - TIE_TOLERANCE).sum(axis=1)
    return float((1 / rank_P).mean())
