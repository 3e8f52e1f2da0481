"""Detect images of unknown classes (out-of-distribution detection)."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.tasks import AnyBenchmark, ClassificationBenchmark
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.evaluators.zero_shot import build_zero_shot_classifier
from zebra.pretrained.bundle import Bundle
from zebra.protocols.classname_matching import match_keys
from zebra.protocols.ood import DetectionResult, compute_detection_scores
from zebra.protocols.prompts import PromptSet

OOD_SPLIT = "test"
"""Split of the datasets of unknown classes; those of MCM have no other."""


def load_ood_datasets(config: EvaluateConfig) -> list[AnyBenchmark]:
    """Load the datasets of unknown classes; [] if the task is not requested."""
    if "ood" not in config.tasks:
        return []
    return [load_dataset(name, OOD_SPLIT, config.data_root) for name in config.ood_datasets]


def evaluate_ood(
    clip: Bundle, benchmark: ClassificationBenchmark, prompts: PromptSet, unknown: AnyBenchmark
) -> TaskResult:
    """Compare the detection scores of a dataset with those of images of unknown classes.

    Raises:
        DataError: Both are the same data.
    """
    if unknown.source.digest == benchmark.source.digest:
        raise DataError(f"{unknown.name} has the images of {benchmark.name}, whose classes are known. Name another one")
    class_CE = build_zero_shot_classifier(clip, prompts)
    known_images, unknown_images = embed_source(clip, benchmark.source), embed_source(clip, unknown.source)
    result = DetectionResult(
        *(
            compute_detection_scores(images.vectors, class_CE, clip.logit_scale)
            for images in (known_images, unknown_images)
        )
    )
    columns = {
        name: np.concatenate([result.known[name], result.unknown[name]]).astype(np.float32) for name in result.known
    }
    ids = [*known_images.ids, *unknown_images.ids]
    is_known = np.repeat([True, False], [len(known_images.ids), len(unknown_images.ids)])
    notes = [
        f"unknown images: {len(unknown_images.ids):,} of {unknown.name}, digest {unknown.source.digest[:12]}",
        *_shared_class_notes(benchmark.classnames, unknown),
    ]
    return TaskResult(
        benchmark.name,
        f"ood-{unknown.name}",
        result.scores(),
        benchmark.source.digest,
        prompts.hash,
        notes=(*benchmark.notes, *prompts.notes, *unknown.notes, *notes),
        predictions=pa.table({"id": ids, "known": is_known, **columns}),
    )


def _shared_class_notes(classnames: Sequence[str], unknown: AnyBenchmark) -> list[str]:
    """Return a note on classes that are in both datasets, of which no image is unknown."""
    if not isinstance(unknown, ClassificationBenchmark):
        return []
    shared = match_keys(unknown.classnames, classnames)
    if not shared:
        return []
    examples = ", ".join(list(shared)[:3]) + (", …" if len(shared) > 3 else "")
    return [f"{len(shared)} classes of {unknown.name} are classes of the dataset, so they are not unknown: {examples}"]
