"""Evaluation of a trained model on the pairs that were held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from zebra.evaluators.embeddings import evenly_spaced
from zebra.evaluators.template_selection import TemplateSelection, select_templates
from zebra.evaluators.validation import RetrievalValidator
from zebra.models.clip import truncate_vectors
from zebra.pretrained.bundle import Bundle
from zebra.text.caption_frames import find_caption_frames
from zebra.values import Embeddings, Score

MAX_EXAMPLES = 8
"""Number of hits, and of misses, to show."""


@dataclass(frozen=True, slots=True)
class RetrievalExample:
    """A held-out image with its caption and the caption that the model ranks first."""

    image: Image.Image
    """As the model sees it: resized and cropped."""
    caption: str
    rank: int
    """Rank of the caption among those of all images, from 1."""
    retrieved: str
    """The caption with the highest score."""


@dataclass(frozen=True, slots=True)
class HeldOutResult:
    """Retrieval on the pairs that were not trained on, and the templates chosen on them."""

    scores: dict[str, Score]
    """Recall at 1, 5 and 10 in both directions."""
    scores_by_size: dict[int, dict[str, Score]]
    """The same with the first components of the vectors, for each shorter size that the model was trained for."""
    num_images: int
    num_captions: int
    num_ambiguous_captions: int
    """Captions that another image has, too; they cannot be retrieved first."""
    hits: tuple[RetrievalExample, ...]
    misses: tuple[RetrievalExample, ...]
    """Images for which another caption ranks first, the lowest ranks of the true caption first."""
    templates: TemplateSelection | None
    """None if the captions are too alike to choose."""


def evaluate_held_out(clip: Bundle, pairs: RetrievalValidator) -> HeldOutResult | None:
    """Evaluate the final model on held-out pairs; all processes must call it.

    Examples come from the images of this process.

    Returns:
        The result; None for a single image, among which there is nothing to retrieve.
    """
    if len(pairs.ids) < 2:
        return None
    images, texts = pairs.embed(clip)
    ranks = pairs.rank(images, texts)
    scores_by_size = {
        size: pairs.rank(_truncate(images, size), _truncate(texts, size)).scores()
        for size in clip.model.config.dimensions
    }
    local = np.arange(len(images.ids))[pairs.images.group.local_slice(len(images.ids))]
    is_hit = ranks.text_rank_N[local] == 1
    worst_first = local[~is_hit][np.argsort(-ranks.text_rank_N[local[~is_hit]], kind="stable")]
    hits = local[is_hit][evenly_spaced(MAX_EXAMPLES, int(is_hit.sum()))]
    retrieved_N = ranks.retrieved_text_N

    def examples(indices: Sequence[int]) -> tuple[RetrievalExample, ...]:
        return tuple(
            RetrievalExample(
                Image.fromarray(pairs.images.pixels[index - local[0]].transpose(1, 2, 0)),
                pairs.captions[ranks.own_text_N[index]],
                int(ranks.text_rank_N[index]),
                pairs.captions[retrieved_N[index]],
            )
            for index in indices
        )

    frames = find_caption_frames(pairs.captions)
    return HeldOutResult(
        ranks.scores(),
        scores_by_size,
        len(images.ids),
        len(pairs.captions),
        ranks.num_ambiguous_captions,
        examples(hits.tolist()),
        examples(worst_first[:MAX_EXAMPLES].tolist()),
        select_templates(clip, images, pairs.captions, pairs.image_of_text_M.tolist(), frames),
    )


def _truncate(embeddings: Embeddings, size: int) -> Embeddings:
    return replace(embeddings, vectors=truncate_vectors(torch.from_numpy(embeddings.vectors), size).numpy())
