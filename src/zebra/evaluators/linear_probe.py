"""A model and a labelled set in; probes on its features, with all examples and with few, beside zero-shot, out.

CLIP App. A.3 and Figs. 6 and 7.
"""

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
from zebra.protocols.few_shot import (
    DEFAULT_SHOTS,
    FewShotResult,
    estimate_data_efficiency,
    fit_few_shot_probes,
)
from zebra.protocols.linear_probe import LinearProbeResult, fit_linear_probe, select
from zebra.protocols.multilabel_probe import fit_multilabel_probe
from zebra.protocols.prompts import PromptSet
from zebra.protocols.zero_shot import ClassificationResult, classify_zero_shot


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """Probes on the features of one set, beside zero-shot on the same test pictures."""

    benchmark: ClassificationBenchmark
    zero_shot_result: ClassificationResult
    linear_result: LinearProbeResult
    few_shot_results: tuple[FewShotResult, ...]
    labels_per_class: float
    """Of the full probe."""
    notes: tuple[str, ...]

    def linear_probe(self) -> TaskResult:
        """Return the linear probe's outcome."""
        stopped = (
            [f"{self.linear_result.num_unconverged} fits ended at the limit of iterations"]
            if self.linear_result.num_unconverged
            else []
        )
        notes = (*self.notes, f"λ = {self.linear_result.probe.l2_penalty:.3g}", *stopped)
        scores = scores_with_primary_metric(self.linear_result.result, self.benchmark.metric)
        return TaskResult(
            self.benchmark.name, "linear-probe", scores, self.benchmark.source.digest, notes=notes
        )

    def few_shot(self) -> list[TaskResult]:
        """Return zero-shot on the probes' test pictures, then the few-shot probes'."""
        name, digest = self.benchmark.name, self.benchmark.source.digest
        line = {"top1": self.zero_shot_result.scores()["top1"]}
        notes = (
            *self.notes,
            "on the probes' test pictures",
            f"a probe needs {self.describe_data_efficiency()} labels per class to equal it",
        )
        curve = [
            TaskResult(
                name,
                f"few-shot-{point.shots}",
                {"top1": point.mean().score},
                digest,
                notes=(
                    *self.notes,
                    f"interval over {point.mean().interval_source}",
                    "λ of the linear probe, found with all examples",
                ),
                chance_accuracy=1 / self.zero_shot_result.num_classes,
            )
            for point in self.few_shot_results
        ]
        return [TaskResult(name, "few-shot-zero-shot", line, digest, notes=notes), *curve]

    def describe_data_efficiency(self) -> str:
        """Say at how many labels per class the probe equals zero-shot (Fig. 7)."""
        found = estimate_data_efficiency(
            [point.shots for point in self.few_shot_results],
            [point.mean().score.value for point in self.few_shot_results],
            (self.labels_per_class, self.linear_result.result.scores()["top1"].value),
            self.zero_shot_result.scores()["top1"].value,
        )
        sign = {"exactly": "", "below": "fewer than ", "above": "more than "}[found.bound]
        return f"{sign}{found.labels_per_class:.3g}"


LabeledBenchmark = TypeVar("LabeledBenchmark", ClassificationBenchmark, MultilabelBenchmark)


def load_train_split(
    dataset: str, benchmark: LabeledBenchmark, config: EvaluateConfig
) -> LabeledBenchmark | None:
    """Open the training split of a set; None if it has none."""
    try:
        train = load_dataset(dataset, "train", config.data_root)
    except DataError:
        return None
    if not isinstance(train, type(benchmark)) or train.classnames != benchmark.classnames:
        raise DataError(f"the training split of {dataset} has other classes than its {config.split} split")
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
    """Fit probes to the features before the projection: of the training split, else of one half of the set."""
    test = embed_source(clip, benchmark.source, projected=False)
    vectors = embed_source(clip, benchmark.source)
    notes = benchmark.notes
    if train is None:
        pool, test = stratified_halves(test, seed)
        kept = set(test.ids)
        vectors = select(vectors, np.array([n for n, id in enumerate(vectors.ids) if id in kept]))
        notes = (*notes, "without a training split: examples are one half of the set, scores the other's")
    else:
        pool = embed_source(clip, train.source, projected=False)
    classes = len(benchmark.classnames)
    linear = fit_linear_probe(pool, test, classes, seed=seed)
    assert pool.labels is not None
    counts = np.bincount(pool.labels, minlength=classes)
    possible = [count for count in shots if count <= counts.min()]
    if not possible:
        raise DataError(
            f"{benchmark.classnames[int(counts.argmin())]!r} of {benchmark.name} has {counts.min()} examples, fewer "
            f"than the {min(shots)} shots asked for"
        )
    if len(possible) < len(shots):
        notes = (*notes, f"{counts.min()} examples of a class allow {max(possible)} shots at most")
    few = fit_few_shot_probes(
        pool, test, classes, linear.probe.l2_penalty, shots=possible, num_repeats=num_repeats, seed=seed
    )
    outcome = classify_zero_shot(vectors, build_zero_shot_classifier(clip, prompts))
    return ProbeResults(benchmark, outcome, linear, few, float(counts.mean()), notes)


def evaluate_multilabel_probe(
    clip: Bundle, benchmark: MultilabelBenchmark, train: MultilabelBenchmark | None, seed: int = 0
) -> TaskResult:
    """Fit a probe for each class of a set whose pictures show several.

    Raises:
        DataError: The set has no training split: halves of it would not be the set that others report on.
    """
    if train is None:
        raise DataError(
            f"{benchmark.name} has no training split, and a probe of several labels needs one; leave linear-probe out"
        )
    points = 11 if benchmark.metric == "map11" else None
    found = fit_multilabel_probe(
        embed_source(clip, train.source, projected=False),
        train.labels_NC,
        embed_source(clip, benchmark.source, projected=False),
        benchmark.labels_NC,
        num_points=points,
        seed=seed,
    )
    stopped = (
        [f"{found.num_unconverged} fits ended at the limit of iterations"] if found.num_unconverged else []
    )
    notes = (*benchmark.notes, f"λ = {found.l2_penalty:.3g}", *stopped)
    return TaskResult(
        benchmark.name, "linear-probe", found.result.scores(), benchmark.source.digest, notes=notes
    )
