"""Evaluate zero-shot classification of neighboring video frames (pm-k)."""

import numpy as np
import pyarrow as pa

from zebra.data.benchmarks.tasks import FrameSetBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.evaluators.zero_shot import ENSEMBLE_TASK, build_zero_shot_classifier, equal_class_notes
from zebra.pretrained.bundle import Bundle
from zebra.protocols.frame_sets import score_frame_sets
from zebra.protocols.prompts import PromptSet


def evaluate_frame_sets(clip: Bundle, benchmark: FrameSetBenchmark, prompts: PromptSet) -> TaskResult:
    """Classify all frames, and count the sets whose anchor, and whose frames are all right."""
    images = embed_source(clip, benchmark.source)
    class_CE = build_zero_shot_classifier(clip, prompts)
    predicted_M = (images.vectors @ class_CE.T).argmax(axis=1)
    correct_M = benchmark.labels_MC[np.arange(len(predicted_M)), predicted_M]
    columns = {
        "id": [images.ids[frames[0]] for frames in benchmark.frame_sets],
        "pm0": [bool(correct_M[frames[0]]) for frames in benchmark.frame_sets],
        "pm10": [bool(correct_M[list(frames)].all()) for frames in benchmark.frame_sets],
    }
    return TaskResult(
        benchmark.name,
        ENSEMBLE_TASK,
        score_frame_sets(correct_M, benchmark.frame_sets),
        benchmark.source.digest,
        prompts.hash,
        notes=(*benchmark.notes, *prompts.notes, *equal_class_notes(class_CE, benchmark.classnames)),
        predictions=pa.table(columns),
    )
