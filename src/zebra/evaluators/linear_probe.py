"""Linear and few-shot probes on image features (CLIP App. A.3, Figs. 6 and 7)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark
from zebra.errors import DataError
from zebra.evaluators.classification_scores import score_classification
from zebra.evaluators.embeddings import embed_features_and_vectors, embed_source, stratified_halves
from zebra.evaluators.predictions import (
    build_classification_predictions,
    build_few_shot_predictions,
    build_multilabel_predictions,
)
from zebra.evaluators.results import TaskResult
from zebra.evaluators.training_splits import TrainingSplits
from zebra.evaluators.zero_shot import build_zero_shot_classifier
from zebra.pretrained.bundle import Bundle
from zebra.protocols.data_efficiency import estimate_data_efficiency
from zebra.protocols.few_shot import DEFAULT_SHOTS, FewShotResult, fit_few_shot_probes
from zebra.protocols.linear_probe import LinearProbeResult, fit_linear_probe, select
from zebra.protocols.multilabel_probe import fit_multilabel_probe
from zebra.protocols.prompts import PromptSet
from zebra.protocols.zero_shot import ClassificationResult, classify_zero_shot
from zebra.values import Embeddings

SMALL_TRAINING_SPLIT = 1000
"""Training examples below which the choice of the validation examples moves scores by points."""

HALVES_NOTE = "no training split: trained on one half of the dataset, tested on the other half"


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Probes on the features of one dataset, and zero-shot on the same test images if there are few-shot probes."""

    benchmark: ClassificationBenchmark
    test_ids: tuple[str, ...]
    """Ids of the test images."""
    linear_result: LinearProbeResult
    labels_per_class: float
    """Mean number of examples per class of the linear probe."""
    notes: tuple[str, ...]
    zero_shot_result: ClassificationResult | None = None
    few_shot_results: tuple[FewShotResult, ...] = ()
    few_shot_notes: tuple[str, ...] = ()
    """Notes on the few-shot probes alone."""

    def linear_probe(self) -> TaskResult:
        """Return the result of the linear probe."""
        scored = score_classification(self.linear_result.result, self.benchmark, self.test_ids)
        notes = (
            *self.notes,
            f"λ = {self.linear_result.probe.l2_penalty:.3g}",
            *_convergence_notes(self.linear_result.num_unconverged),
            *scored.notes,
        )
        return TaskResult(
            self.benchmark.name,
            "linear-probe",
            scored.scores,
            self.benchmark.source.digest,
            notes=notes,
            predictions=build_classification_predictions(
                self.test_ids, self.linear_result.result, self.benchmark.classnames, self.benchmark.groups
            ),
            labels_per_class=self.labels_per_class,
        )

    def few_shot(self) -> list[TaskResult]:
        """Return the results of zero-shot on the test images of the probes, then of the few-shot probes."""
        if self.zero_shot_result is None:
            return []
        name, digest = self.benchmark.name, self.benchmark.source.digest
        notes = (*self.notes, *self.few_shot_notes)
        zero_shot = TaskResult(
            name,
            "few-shot-zero-shot",
            {"top1": self.zero_shot_result.scores()["top1"]},
            digest,
            notes=(
                *notes,
                "on the test images of the probes",
                f"a probe needs {self.describe_data_efficiency()} labels per class to reach the same accuracy",
            ),
            predictions=build_classification_predictions(
                self.test_ids, self.zero_shot_result, self.benchmark.classnames
            ),
        )
        return [
            zero_shot,
            *(
                TaskResult(
                    name,
                    f"few-shot-{point.shots}",
                    {"top1": point.mean_accuracy()},
                    digest,
                    notes=(
                        *notes,
                        f"mean over {len(point.results)} draws",
                        "λ of the linear probe, selected on all examples",
                    ),
                    predictions=build_few_shot_predictions(self.test_ids, point, self.benchmark.classnames),
                    chance_accuracy=1 / self.zero_shot_result.num_classes,
                    labels_per_class=point.shots,
                )
                for point in self.few_shot_results
            ),
        ]

    def describe_data_efficiency(self) -> str:
        """Format the number of labels per class at which the probe matches zero-shot (Fig. 7)."""
        assert self.zero_shot_result is not None, "evaluate_probes was called without shots"
        points = [point for point in self.few_shot_results if point.shots < self.labels_per_class]
        efficiency = estimate_data_efficiency(
            [point.shots for point in points],
            [point.mean_accuracy().value for point in points],
            (self.labels_per_class, self.linear_result.result.scores()["top1"].value),
            self.zero_shot_result.scores()["top1"].value,
        )
        prefix = {"exactly": "", "below": "fewer than ", "above": "more than "}[efficiency.bound]
        return f"{prefix}{efficiency.labels_per_class:.3g}"


def evaluate_probes(
    clip: Bundle,
    benchmark: ClassificationBenchmark,
    splits: TrainingSplits[ClassificationBenchmark] | None,
    prompts: PromptSet,
    shots: Sequence[int] = DEFAULT_SHOTS,
    num_repeats: int = 3,
    seed: int = 0,
) -> ProbeResults:
    """Fit probes to the features before the projection.

    The training examples are the training split or, without one, half of each class of the dataset. Few-shot examples
    are drawn from the training split alone.

    Args:
        shots: Numbers of examples per class; none: no few-shot probes.
        num_repeats: Number of random draws of examples for each number of shots.

    Raises:
        DataError: A class has fewer examples than the smallest number of shots.
    """
    test, vectors = embed_features_and_vectors(clip, benchmark.source)
    notes = benchmark.notes
    validation = None
    if splits is None:
        pool, test = stratified_halves(test, seed)
        test_ids = set(test.ids)
        vectors = select(vectors, np.array([n for n, id in enumerate(vectors.ids) if id in test_ids]))
        notes = (*notes, HALVES_NOTE)
    else:
        pool = embed_source(clip, splits.train.source, projected=False)
        notes = (*notes, *splits.notes)
        if splits.validation is not None:
            validation = embed_source(clip, splits.validation.source, projected=False)
    if validation is None:
        notes = (*notes, _describe_held_out_fifth(len(pool.ids)))
    num_classes = len(benchmark.classnames)
    linear_result = fit_linear_probe(pool, test, num_classes, validation=validation, seed=seed)
    zero_shot_result = classify_zero_shot(vectors, build_zero_shot_classifier(clip, prompts)) if shots else None
    num_examples = len(pool.ids) + (len(validation.ids) if validation else 0)
    probes = ProbeResults(benchmark, test.ids, linear_result, num_examples / num_classes, notes, zero_shot_result)
    return _add_few_shot(probes, pool, test, shots, num_repeats, seed) if shots else probes


def _describe_held_out_fifth(num_examples: int) -> str:
    """Return the note on λ of a dataset without a validation split."""
    note = "λ was chosen on a random fifth of each class of the training examples"
    if num_examples < SMALL_TRAINING_SPLIT:
        note += f"; with only {num_examples}, another fifth can move the score by points, which its interval leaves out"
    return note


def _add_few_shot(
    probes: ProbeResults, pool: Embeddings, test: Embeddings, shots: Sequence[int], num_repeats: int, seed: int
) -> ProbeResults:
    benchmark, notes = probes.benchmark, probes.notes
    assert pool.labels is not None
    counts = np.bincount(pool.labels, minlength=len(benchmark.classnames))
    possible_shots = [count for count in shots if count <= counts.min()]
    if not possible_shots:
        raise DataError(
            f"the class {benchmark.classnames[int(counts.argmin())]!r} of {benchmark.name} has {counts.min()} training "
            f"examples, fewer than {min(shots)} shots. Lower --shots, or leave out the task few-shot."
        )
    if len(possible_shots) < len(shots):
        notes = (*notes, f"at most {max(possible_shots)} shots: the smallest class has {counts.min()} examples")
    few_shot_results = fit_few_shot_probes(
        pool,
        test,
        len(benchmark.classnames),
        probes.linear_result.probe.l2_penalty,
        shots=possible_shots,
        num_repeats=num_repeats,
        seed=seed,
    )
    return replace(probes, few_shot_results=few_shot_results, few_shot_notes=notes[len(probes.notes) :])


def evaluate_multilabel_probe(
    clip: Bundle, benchmark: MultilabelBenchmark, splits: TrainingSplits[MultilabelBenchmark] | None, seed: int = 0
) -> TaskResult:
    """Fit one binary probe per class of a multilabel dataset.

    Raises:
        DataError: The dataset has no training split; scores on half of it would not compare with published ones.
    """
    if splits is None:
        raise DataError(
            f"{benchmark.name} has no training split, which a multilabel probe needs. Leave out the task linear-probe."
        )
    examples, labels_NC = embed_source(clip, splits.train.source, projected=False), splits.train.labels_NC
    is_validation_N = None
    if splits.validation is not None:
        validation = embed_source(clip, splits.validation.source, projected=False)
        is_validation_N = np.arange(len(examples.ids) + len(validation.ids)) >= len(examples.ids)
        examples = replace(
            examples,
            vectors=np.concatenate([examples.vectors, validation.vectors]),
            ids=examples.ids + validation.ids,
            labels=None,
        )
        labels_NC = np.concatenate([labels_NC, splits.validation.labels_NC])
    test = embed_features_and_vectors(clip, benchmark.source)[0]
    probe_result = fit_multilabel_probe(
        examples,
        labels_NC,
        test,
        benchmark.labels_NC,
        is_validation_N=is_validation_N,
        num_points=11 if benchmark.metric == "map11" else None,
        seed=seed,
    )
    return TaskResult(
        benchmark.name,
        "linear-probe",
        probe_result.result.scores(),
        benchmark.source.digest,
        notes=(
            *benchmark.notes,
            *splits.notes,
            f"λ = {probe_result.l2_penalty:.3g}",
            *_convergence_notes(probe_result.num_unconverged),
        ),
        predictions=build_multilabel_predictions(test.ids, probe_result.result, benchmark.classnames),
    )


def _convergence_notes(num_unconverged: int) -> list[str]:
    return [f"{num_unconverged} fits reached the iteration limit"] if num_unconverged else []
