"""Evaluate compositionality: captions and images that differ in a detail."""

import numpy as np

from zebra.data.benchmarks.tasks import CompositionalityBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.predictions import build_compositionality_predictions
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.compositionality import (
    SugarCrepeResult,
    WinogroundResult,
    evaluate_sugarcrepe,
    evaluate_winoground,
)


def evaluate_compositionality(clip: Bundle, benchmark: CompositionalityBenchmark) -> TaskResult:
    """Choose between two captions that differ in a detail (SugarCrepe, Winoground)."""
    images = embed_source(clip, benchmark.source)
    image_NE = images.vectors
    first, second = (
        clip.encode_texts([question.captions[side] for question in benchmark.questions]).numpy() for side in (0, 1)
    )
    image_indices = np.array([question.image_indices for question in benchmark.questions])
    result: SugarCrepeResult | WinogroundResult
    if image_indices.shape[1] == 1:
        categories = [question.category for question in benchmark.questions]
        result = evaluate_sugarcrepe(image_NE[image_indices[:, 0]], first, second, categories)
    else:
        result = evaluate_winoground(image_NE[image_indices], np.stack([first, second], axis=1))
    ids = [f"{images.ids[index]}#{number}" for number, index in enumerate(image_indices[:, 0])]
    return TaskResult(
        benchmark.name,
        "compositionality",
        result.scores(),
        benchmark.source.digest,
        notes=benchmark.notes,
        predictions=build_compositionality_predictions(ids, result),
    )
