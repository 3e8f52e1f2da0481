"""Evaluate retrieval on captioned images."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import RetrievalBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.predictions import build_retrieval_predictions
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.retrieval import RetrievalRanks, compute_retrieval_ranks, match_in_batches
from zebra.values import Embeddings, Score

MATCHING_METRIC = "matching_of_"
"""Prefix of the metric that chooses a caption among those of so many consecutive images."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Ranks of captions and images, with what explains them."""

    ranks: RetrievalRanks
    predictions: pa.Table
    notes: tuple[str, ...]


def evaluate_retrieval(clip: Bundle, benchmark: RetrievalBenchmark, caption_prefix: str) -> TaskResult:
    """Retrieve captions by image and images by caption (CLIP §3.1.5).

    Args:
        caption_prefix: Text put before every caption.
    """
    images = embed_source(clip, benchmark.source)
    captions = [benchmark.source.read(index).captions for index in range(len(benchmark.source))]
    notes = (*benchmark.notes, f"caption prefix: {caption_prefix!r}")
    if benchmark.metric.startswith(MATCHING_METRIC):
        scores = {benchmark.metric: _match(clip, images, captions, caption_prefix, benchmark.metric)}
        texts = [caption_prefix + captions_of_image[0] for captions_of_image in captions]
        notes = (*notes, *clip.require_tokenizer().count_tokens(texts).describe_truncation())
        return TaskResult(benchmark.name, "retrieval", scores, benchmark.source.digest, notes=notes)
    retrieval = retrieve(clip, images, captions, caption_prefix)
    scores = retrieval.ranks.scores()
    if {"image_to_text_recall@1", "text_to_image_recall@1"} <= scores.keys():
        scores = {"mean_recall@1": retrieval.ranks.mean_recall_at_1()} | scores
    return TaskResult(
        benchmark.name,
        "retrieval",
        scores,
        benchmark.source.digest,
        notes=(*notes, *retrieval.notes),
        predictions=retrieval.predictions,
    )


def retrieve(
    clip: Bundle,
    images: Embeddings,
    captions_by_image: Sequence[Sequence[str]],
    caption_prefix: str,
    language: str = "",
) -> Retrieval:
    """Rank the captions for each image, and the images for each caption.

    Args:
        clip: The model.
        images: Embeddings of N images.
        captions_by_image: At least one caption of each image.
        caption_prefix: Text put before every caption.
        language: The language of the captions, for notes; empty if it is not known.
    """
    image_of_text_M = np.repeat(np.arange(len(captions_by_image)), [len(captions) for captions in captions_by_image])
    text_ids = tuple(
        f"{images.ids[n]}#{k}" for n, captions in enumerate(captions_by_image) for k in range(len(captions))
    )
    captions = [caption for captions in captions_by_image for caption in captions]
    prefixed = [caption_prefix + caption for caption in captions]
    text_ME = _encode(clip, prefixed)
    texts = Embeddings(text_ME, text_ids, fingerprint=clip.fingerprint)
    ranks = compute_retrieval_ranks(images, texts, image_of_text_M)
    counts = clip.require_tokenizer().count_tokens(prefixed)
    prefix = f"{language}: " if language else ""
    ambiguous = f"{prefix}{ranks.num_ambiguous_captions} captions belong to several images"
    notes = (
        *([ambiguous] if ranks.num_ambiguous_captions else []),
        *counts.describe_coverage(language),
        *counts.describe_truncation(language),
    )
    return Retrieval(ranks, build_retrieval_predictions(images.ids, ranks, captions), notes)


def _match(
    clip: Bundle, images: Embeddings, captions: Sequence[Sequence[str]], caption_prefix: str, metric: str
) -> Score:
    """Choose the caption of each image among those of the images in its batch; regions of one photo are a cluster."""
    texts = _encode(clip, [caption_prefix + captions_of_image[0] for captions_of_image in captions])
    photos = np.unique([id.partition("#")[0] for id in images.ids], return_inverse=True)[1]
    return match_in_batches(images.vectors, texts, int(metric.removeprefix(MATCHING_METRIC)), photos)


def _encode(clip: Bundle, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of texts; the notes on a result count those that are truncated, so there is no warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* texts were truncated")
        vectors_ME: NDArray[np.float32] = clip.encode_texts(texts).numpy()
    return vectors_ME
