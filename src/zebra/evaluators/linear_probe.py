"""Linear and few-shot probes on image features (CLIP App. A.3, Figs. 6 and 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark
from zebra.errors import DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.embeddings import embed_source, stratified_halves
from zebra.evaluators.results import TaskResult, scores_with_primary_metric
from zebra.evaluators.zero_shot import build_zero_shot_classifier
from zebra.pretrained.bundle import Bundle
from zebra.protocols.few_shot import DEFAULT_SHOTS, FewShotResult, estimate_data_efficiency, fit_few_shot_probes
from zebra.protocols.linear_probe import LinearProbeResult, fit_linear_probe, select
from zebra.protocols.multilabel_probe import fit_multilabel_probe
from zebra.protocols.prompts import PromptSet
from zebra.protocols.zero_shot import ClassificationResult, classify_zero_shot


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Probes on the features of one dataset, and zero-shot on the same test images."""

    benchmark: ClassificationBenchmark
    zero_shot_result: ClassificationResult
    linear_result: LinearProbeResult
    few_shot_results: tuple[FewShotResult, ...]
    labels_per_class: float
    """Mean number of training examples per class of the linear probe."""
    notes: tuple[str, ...]

    def linear_probe(self) -> TaskResult:
        """Return the result of the linear probe."""
        notes = (
            *self.notes,
            f"λ = {self.linear_result.probe.l2_penalty:.3g}",
            *_convergence_notes(self.linear_result.num_unconverged),
        )
        scores = scores_with_primary_metric(self.linear_result.result, self.benchmark.metric)
        return TaskResult(self.benchmark.name, "linear-probe", scores, self.benchmark.source.digest, notes=notes)

    def few_shot(self) -> list[TaskResult]:
        """Return the results of zero-shot on the test images of the probes, then of the few-shot probes."""
        name, digest = self.benchmark.name, self.benchmark.source.digest
        zero_shot_scores = {"top1": self.zero_shot_result.scores()["top1"]}
        notes = (
            *self.notes,
            "on the test images of the probes",
            f"a probe needs {self.describe_data_efficiency()} labels per class to reach the same accuracy",
        )
        probe_results = [
            TaskResult(
                name,
                f"few-shot-{point.shots}",
                {"top1": point.mean().score},
                digest,
                notes=(
                    *self.notes,
                    f"interval over {point.mean().interval_source}",
                    "λ of the linear probe, selected on all examples",
                ),
                chance_accuracy=1 / self.zero_shot_result.num_classes,
            )
            for point in self.few_shot_results
        ]
        return [TaskResult(name, "few-shot-zero-shot", zero_shot_scores, digest, notes=notes), *probe_results]

    def describe_data_efficiency(self) -> str:
        """Format the number of labels per class at which the probe matches zero-shot (Fig. 7)."""
        efficiency = estimate_data_efficiency(
            [point.shots for point in self.few_shot_results],
            [point.mean().score.value for point in self.few_shot_results],
            (self.labels_per_class, self.linear_result.result.scores()["top1"].value),
            self.zero_shot_result.scores()["top1"].value,
        )
        prefix = {"exactly": "", "below": "fewer than ", "above": "more than "}[efficiency.bound]
        return f"{prefix}{efficiency.labels_per_class:.3g}"


LabeledBenchmark = TypeVar("LabeledBenchmark", ClassificationBenchmark, MultilabelBenchmark)


def load_train_split(dataset: str, benchmark: LabeledBenchmark, config: EvaluateConfig) -> LabeledBenchmark | None:
    """Load the training split of a dataset; None if it has none.

    Raises:
        DataError: It has other classes than the evaluated split.
    """
    try:
        train = load_dataset(dataset, "train", config.data_root)
    except DataError:
        return None
    if not isinstance(train, type(benchmark)) or train.classnames != benchmark.classnames:
        raise DataError(
            f"the training split of {dataset} has other classes than its {config.split} split. Repair the dataset, or "
            "leave out the tasks linear-probe and few-shot."
        )
    return train


def evaluate_probes(
    clip: Bundle,
    benchmark: ClassificationBenchmark,
    train: ClassificationBenchmark | None,
    prompts: PromptSet,
    shots: Sequence[int] = DEFAULT_SHOTS,
    num_repeats: int = 3,
    seed: int = 0,
) -> ProbeResults:
    """Fit probes to the features before the projection.

    The training examples are the training split or, without one, half of each class of the dataset.

    Args:
        shots: Numbers of examples per class.
        num_repeats: Number of random draws of examples for each number of shots.

    Raises:
        DataError: A class has fewer examples than the smallest number of shots.
    """
    test = embed_source(clip, benchmark.source, projected=False)
    vectors = embed_source(clip, benchmark.source)
    notes = benchmark.notes
    if train is None:
        pool, test = stratified_halves(test, seed)
        test_ids = set(test.ids)
        vectors = select(vectors, np.array([n for n, id in enumerate(vectors.ids) if id in test_ids]))
        notes = (*notes, "no training split: trained on one half of the dataset, tested on the other half")
    else:
        pool = embed_source(clip, train.source, projected=False)
    num_classes = len(benchmark.classnames)
    linear_result = fit_linear_probe(pool, test, num_classes, seed=seed)
    assert pool.labels is not None
    counts = np.bincount(pool.labels, minlength=num_classes)
    possible_shots = [count for count in shots if count <= counts.min()]
    if not possible_shots:
        raise DataError(
            f"the class {benchmark.classnames[int(counts.argmin())]!r} of {benchmark.name} has {counts.min()} training "
            f"examples, fewer than {min(shots)} shots. Lower --shots."
        )
    if len(possible_shots) < len(shots):
        notes = (*notes, f"at most {max(possible_shots)} shots: the smallest class has {counts.min()} examples")
    few_shot_results = fit_few_shot_probes(
        pool,
        test,
        num_classes,
        linear_result.probe.l2_penalty,
        shots=possible_shots,
        num_repeats=num_repeats,
        seed=seed,
    )
    zero_shot_result = classify_zero_shot(vectors, build_zero_shot_classifier(clip, prompts))
    return ProbeResults(benchmark, zero_shot_result, linear_result, few_shot_results, float(counts.mean()), notes)


def evaluate_multilabel_probe(
    clip: Bundle, benchmark: MultilabelBenchmark, train: MultilabelBenchmark | None, seed: int = 0
) -> TaskResult:
    """Fit one binary probe per class of a multilabel dataset.

    Raises:
        DataError: The dataset has no training split; scores on half of it would not compare with published ones.
    """
    if train is None:
        raise DataError(
            f"{benchmark.name} has no training split, which a multilabel probe needs. Leave out the task linear-probe."
        )
    num_points = 11 if benchmark.metric == "map11" else None
    probe_result = fit_multilabel_probe(
        embed_source(clip, train.source, projected=False),
        train.labels_NC,
        embed_source(clip, benchmark.source, projected=False),
        benchmark.labels_NC,
        num_points=num_points,
        seed=seed,
    )
    notes = (*benchmark.notes, f"λ = {probe_result.l2_penalty:.3g}", *_convergence_notes(probe_result.num_unconverged))
    return TaskResult(
        benchmark.name, "linear-probe", probe_result.result.scores(), benchmark.source.digest, notes=notes
    )


def _convergence_notes(num_unconverged: int) -> list[str]:
    return [f"{num_unconverged} fits reached the iteration limit"] if num_unconverged else []
