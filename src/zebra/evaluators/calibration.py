"""Evaluate the probabilities of zero-shot classification."""

import numpy as np
import pyarrow as pa

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import UnsuitableDataset
from zebra.evaluators.embeddings import embed_source, stratified_halves
from zebra.evaluators.results import TaskResult
from zebra.evaluators.zero_shot import build_zero_shot_classifier
from zebra.pretrained.bundle import Bundle
from zebra.protocols.calibration import compute_probabilities, fit_temperature
from zebra.protocols.prompts import PromptSet
from zebra.protocols.zero_shot import cosines_to_classes

CALIBRATION_TASK = "calibration"


def evaluate_calibration(clip: Bundle, benchmark: ClassificationBenchmark, prompts: PromptSet, seed: int) -> TaskResult:
    """Compare the probabilities with the labels, at the model's temperature and at a fitted one.

    The temperature is fitted to one half of each class; its scores, with the suffix `_calibrated`, are those on the
    other half.

    Raises:
        UnsuitableDataset: No class has two images.
    """
    class_CE = build_zero_shot_classifier(clip, prompts)
    images = embed_source(clip, benchmark.source)
    fitted, held_out = stratified_halves(images, seed)
    assert images.labels is not None and fitted.labels is not None and held_out.labels is not None
    if not len(fitted.ids):
        raise UnsuitableDataset("calibration needs a class with two images, one of them to fit the temperature to")
    logit_NC = clip.logit_scale * cosines_to_classes(fitted.vectors, class_CE)
    temperature = fit_temperature(logit_NC, fitted.labels)
    model = compute_probabilities(images.vectors, class_CE, images.labels, clip.logit_scale)
    before = compute_probabilities(held_out.vectors, class_CE, held_out.labels, clip.logit_scale).scores()
    calibrated = compute_probabilities(held_out.vectors, class_CE, held_out.labels, clip.logit_scale / temperature)
    after = calibrated.scores()
    notes = [
        f"a perfectly calibrated model with these confidences has an ECE of {model.expected_error_if_calibrated():.1%} "
        f"on {len(images.ids):,} images, because noise adds to it",
        f"the temperature {1 / clip.logit_scale:.3g} of the model is best multiplied by {temperature:.3g}, fitted to "
        f"one half of the images; on the other half, the ECE is {before['ece'].value:.1%} before and "
        f"{after['ece'].value:.1%} after",
    ]
    if clip.logit_bias is not None:
        notes.append("the model gives independent probabilities (sigmoids); these scores are of the softmax")
    return TaskResult(
        benchmark.name,
        CALIBRATION_TASK,
        model.scores() | {f"{name}_calibrated": score for name, score in after.items()},
        benchmark.source.digest,
        prompts.hash,
        notes=(*benchmark.notes, *prompts.notes, *notes),
        predictions=pa.table(
            {
                "id": list(images.ids),
                "label": images.labels,
                "confidence": model.confidence_N,
                "correct": model.correct_N,
                "calibrated_confidence": pa.array(
                    _place(calibrated.confidence_N, held_out.ids, images.ids), from_pandas=True
                ),
            }
        ),
    )


def _place(value_M: np.ndarray, some_ids: tuple[str, ...], ids: tuple[str, ...]) -> np.ndarray:
    """Return the values of some images at their places among all; NaN for the others."""
    values = dict(zip(some_ids, value_M.tolist(), strict=True))
    return np.array([values.get(id, np.nan) for id in ids])
