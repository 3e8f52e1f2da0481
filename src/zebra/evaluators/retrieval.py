"""Evaluate retrieval on captioned images."""

import numpy as np

from zebra.data.benchmarks.tasks import RetrievalBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.predictions import build_retrieval_predictions
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.retrieval import compute_retrieval_ranks
from zebra.values import Embeddings


def evaluate_retrieval(clip: Bundle, benchmark: RetrievalBenchmark, caption_prefix: str) -> TaskResult:
    """Retrieve captions by image and images by caption (CLIP §3.1.5).

    Args:
        caption_prefix: Text put before every caption.
    """
    images = embed_source(clip, benchmark.source)
    captions_by_image = [benchmark.source.read(index).captions for index in range(len(benchmark.source))]
    image_of_text_M = np.repeat(np.arange(len(captions_by_image)), [len(captions) for captions in captions_by_image])
    text_ids = tuple(
        f"{images.ids[n]}#{k}" for n, captions in enumerate(captions_by_image) for k in range(len(captions))
    )
    captions = [caption for captions in captions_by_image for caption in captions]
    text_ME = clip.encode_texts([caption_prefix + caption for caption in captions]).numpy()
    texts = Embeddings(text_ME, text_ids, fingerprint=clip.fingerprint)
    ranks = compute_retrieval_ranks(images, texts, image_of_text_M)
    ambiguous = (
        [f"{ranks.num_ambiguous_captions} captions belong to several images"] if ranks.num_ambiguous_captions else []
    )
    notes = (*benchmark.notes, f"caption prefix: {caption_prefix!r}", *ambiguous)
    predictions = build_retrieval_predictions(images.ids, ranks, captions)
    return TaskResult(
        benchmark.name, "retrieval", ranks.scores(), benchmark.source.digest, notes=notes, predictions=predictions
    )
