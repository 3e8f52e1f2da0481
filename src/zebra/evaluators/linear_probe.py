"""A model and a labelled set in; probes on its features, with all examples and with few, beside zero-shot, out.

CLIP App. A.3 and Figs. 6 and 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks.clip_benchmark import Benchmark, MultilabelBenchmark
from zebra.errors import DataError
from zebra.evaluators.datasets import open_set
from zebra.evaluators.embeddings import embed_source, halves
from zebra.evaluators.results import Outcome, scores_by
from zebra.evaluators.zero_shot import head
from zebra.pretrained.bundle import Bundle
from zebra.protocols.few_shot import SHOTS, FewShot, data_efficiency, few_shot
from zebra.protocols.linear_probe import LinearProbe, linear_probe, take
from zebra.protocols.multilabel_probe import multilabel_probe
from zebra.protocols.prompts import PromptSet
from zebra.protocols.zero_shot import ZeroShot, zero_shot


@dataclass(frozen=True, slots=True)
class Probed:
    """Probes on the features of one set, beside zero-shot on the same test pictures."""

    benchmark: Benchmark
    zero_shot: ZeroShot
    linear: LinearProbe
    few: tuple[FewShot, ...]
    labels_per_class: float
    """Of the full probe."""
    notes: tuple[str, ...]

    def with_all(self) -> Outcome:
        """Return the linear probe's outcome."""
        stopped = (
            [f"{self.linear.stopped} fits ended at the limit of iterations"] if self.linear.stopped else []
        )
        notes = (*self.notes, f"λ = {self.linear.probe.penalty:.3g}", *stopped)
        scores = scores_by(self.linear.outcome, self.benchmark.metric)
        return Outcome(self.benchmark.name, "linear-probe", scores, self.benchmark.source.digest, notes=notes)

    def with_few(self) -> list[Outcome]:
        """Return zero-shot on the probes' test pictures, then the few-shot probes'."""
        name, digest = self.benchmark.name, self.benchmark.source.digest
        line = {"top1": self.zero_shot.scores()["top1"]}
        notes = (
            *self.notes,
            "on the probes' test pictures",
            f"a probe needs {self.efficiency()} labels per class to equal it",
        )
        curve = [
            Outcome(
                name,
                f"few-shot-{point.shots}",
                {"top1": point.mean().score},
                digest,
                notes=(
                    *self.notes,
                    f"interval over {point.mean().doubt}",
                    "λ of the linear probe, found with all examples",
                ),
                chance=1 / self.zero_shot.classes,
            )
            for point in self.few
        ]
        return [Outcome(name, "few-shot-zero-shot", line, digest, notes=notes), *curve]

    def efficiency(self) -> str:
        """Say at how many labels per class the probe equals zero-shot (Fig. 7)."""
        found = data_efficiency(
            [point.shots for point in self.few],
            [point.mean().score.value for point in self.few],
            (self.labels_per_class, self.linear.outcome.scores()["top1"].value),
            self.zero_shot.scores()["top1"].value,
        )
        sign = {"exactly": "", "below": "fewer than ", "above": "more than "}[found.bound]
        return f"{sign}{found.labels:.3g}"


Labelled = TypeVar("Labelled", Benchmark, MultilabelBenchmark)


def examples(name: str, benchmark: Labelled, config: EvaluateConfig) -> Labelled | None:
    """Open the training split of a set; None if it has none."""
    try:
        train = open_set(name, "train", config.data_root)
    except DataError:
        return None
    if not isinstance(train, type(benchmark)) or train.classnames != benchmark.classnames:
        raise DataError(f"the training split of {name} has other classes than its {config.split} split")
    return train


def probe_set(
    clip: Bundle,
    benchmark: Benchmark,
    train: Benchmark | None,
    prompts: PromptSet,
    shots: Sequence[int] = SHOTS,
    repeats: int = 3,
    seed: int = 0,
) -> Probed:
    """Fit probes to the features before the projection: of the training split, else of one half of the set."""
    test = embed_source(clip, benchmark.source, projected=False)
    vectors = embed_source(clip, benchmark.source)
    notes = benchmark.notes
    if train is None:
        pool, test = halves(test, seed)
        kept = set(test.ids)
        vectors = take(vectors, np.array([n for n, id in enumerate(vectors.ids) if id in kept]))
        notes = (*notes, "without a training split: examples are one half of the set, scores the other's")
    else:
        pool = embed_source(clip, train.source, projected=False)
    classes = len(benchmark.classnames)
    linear = linear_probe(pool, test, classes, seed=seed)
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
    few = few_shot(pool, test, classes, linear.probe.penalty, shots=possible, repeats=repeats, seed=seed)
    outcome = zero_shot(vectors, head(clip, prompts))
    return Probed(benchmark, outcome, linear, few, float(counts.mean()), notes)


def probe_multilabel(
    clip: Bundle, benchmark: MultilabelBenchmark, train: MultilabelBenchmark | None, seed: int = 0
) -> Outcome:
    """Fit a probe for each class of a set whose pictures show several.

    Raises:
        DataError: The set has no training split: halves of it would not be the set that others report on.
    """
    if train is None:
        raise DataError(
            f"{benchmark.name} has no training split, and a probe of several labels needs one; leave linear-probe out"
        )
    points = 11 if benchmark.metric == "map11" else None
    found = multilabel_probe(
        embed_source(clip, train.source, projected=False),
        train.labels_NC,
        embed_source(clip, benchmark.source, projected=False),
        benchmark.labels_NC,
        points=points,
        seed=seed,
    )
    stopped = [f"{found.stopped} fits ended at the limit of iterations"] if found.stopped else []
    notes = (*benchmark.notes, f"λ = {found.penalty:.3g}", *stopped)
    return Outcome(
        benchmark.name, "linear-probe", found.outcome.scores(), benchmark.source.digest, notes=notes
    )
