"""Evaluate the retrieval of actions in clips (RareAct; CLIP Table 15)."""

import pyarrow as pa

from zebra.data.benchmarks.tasks import ActionBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.evaluators.zero_shot import ENSEMBLE_TASK, build_zero_shot_classifier, equal_class_notes
from zebra.pretrained.bundle import Bundle
from zebra.protocols.actions import score_actions
from zebra.protocols.prompts import PromptSet


def evaluate_actions(clip: Bundle, benchmark: ActionBenchmark, prompts: PromptSet, seed: int) -> TaskResult:
    """Score every clip for every action, and rank the clips of each action.

    Args:
        seed: Seed of the draws of mSAP and of the bootstrap.
    """
    clips = embed_source(clip, benchmark.source)
    class_CE = build_zero_shot_classifier(clip, prompts)
    score_NC = clips.vectors @ class_CE.T
    annotations = benchmark.annotations
    columns = {
        "id": list(clips.ids),
        "action": [benchmark.classnames[label] for label in annotations.class_N],
        "annotation": annotations.annotation_N,
        "scores": list(score_NC),
    }
    return TaskResult(
        benchmark.name,
        ENSEMBLE_TASK,
        score_actions(score_NC, annotations, seed=seed),
        benchmark.source.digest,
        prompts.hash,
        notes=(*benchmark.notes, *prompts.notes, *equal_class_notes(class_CE, benchmark.classnames)),
        predictions=pa.table(columns),
    )
