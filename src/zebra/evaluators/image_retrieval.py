"""Evaluate retrieval of images by images."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import ClassificationBenchmark, GalleryBenchmark, InstanceBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.image_retrieval import ImageRetrievalResult, retrieve_from_gallery, retrieve_same_label

IMAGE_RETRIEVAL_TASK = "image-retrieval"


def evaluate_image_retrieval(
    clip: Bundle, benchmark: ClassificationBenchmark | InstanceBenchmark | GalleryBenchmark
) -> TaskResult:
    """Find, for each image of a labeled dataset, the others of its class or instance; or rank a gallery for queries.

    Raises:
        UnsuitableDataset: No class has two images.
    """
    if isinstance(benchmark, GalleryBenchmark):
        return _evaluate_gallery(clip, benchmark)
    images = embed_source(clip, benchmark.source)
    assert images.labels is not None
    is_sample = isinstance(benchmark, InstanceBenchmark)
    result = retrieve_same_label(images.vectors, images.labels, is_sample=is_sample)
    num_alone = len(images.ids) - len(result.query_Q)
    notes = [f"{num_alone:,} images are alone in their class, so they are no queries"] if num_alone else []
    same_N = images.labels[result.nearest_Q] == images.labels[result.query_Q]
    predictions = _build_predictions(images.ids, images.ids, result) | {"correct": same_N}
    return TaskResult(
        benchmark.name,
        IMAGE_RETRIEVAL_TASK,
        result.scores(),
        benchmark.source.digest,
        notes=(*benchmark.notes, *notes),
        predictions=pa.table(predictions),
    )


def _evaluate_gallery(clip: Bundle, benchmark: GalleryBenchmark) -> TaskResult:
    """Rank a gallery for separate queries.

    With hard positives, the scores are those of the revisited Oxford and Paris benchmarks (Radenović et al. 2018, arXiv
    1803.11285): map and mp@k of three set-ups. Easy finds the easy positives and ignores the hard ones, hard the
    reverse, medium finds both.
    """
    images = embed_source(clip, benchmark.source)
    query_QE, gallery_NE = (images.vectors[list(indices)] for indices in (benchmark.queries, benchmark.gallery))
    query_ids = [images.ids[index] for index in benchmark.queries]
    gallery_ids = [images.ids[index] for index in benchmark.gallery]
    easy, hard, junk = (
        [np.array(getattr(relevance, kind), dtype=np.int64) for relevance in benchmark.relevance]
        for kind in ("easy", "hard", "ignored")
    )
    if not any(map(len, hard)):
        result = retrieve_from_gallery(query_QE, gallery_NE, easy, junk)
        scores = result.scores()
    else:
        results = {
            "easy": retrieve_from_gallery(query_QE, gallery_NE, easy, _join(junk, hard)),
            "medium": retrieve_from_gallery(query_QE, gallery_NE, _join(easy, hard), junk),
            "hard": retrieve_from_gallery(query_QE, gallery_NE, hard, _join(junk, easy)),
        }
        scores = {f"map_{setup}": found.mean_average_precision(trapezoid=True) for setup, found in results.items()}
        scores |= {
            f"{name}_{setup}": score
            for setup, found in results.items()
            for name, score in found.mean_precisions().items()
        }
        result = results["medium"]
    return TaskResult(
        benchmark.name,
        IMAGE_RETRIEVAL_TASK,
        scores,
        benchmark.source.digest,
        notes=benchmark.notes,
        predictions=pa.table(_build_predictions(query_ids, gallery_ids, result)),
    )


def _join(first: Sequence[NDArray[np.int64]], second: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    return [np.concatenate(pair) for pair in zip(first, second, strict=True)]


def _build_predictions(
    query_ids: Sequence[str], gallery_ids: Sequence[str], result: ImageRetrievalResult
) -> dict[str, object]:
    """Return one row per query: its average precision, the image that ranks first, and its first positive's rank."""
    return {
        "id": [query_ids[index] for index in result.query_Q.tolist()],
        "average_precision": result.ap_Q,
        "retrieved_id": [gallery_ids[index] for index in result.nearest_Q.tolist()],
        "first_rank": result.first_rank_Q,
    }
