"""`zebra evaluate`: a model and data sets in; embeddings, zero-shot outcomes and scores out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.config.evaluate import EvaluateConfig
from zebra.data.benchmarks import Benchmark, read_benchmark
from zebra.evaluate.zeroshot import ZeroShot, zero_shot
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.report.results import Metrics, write_metrics
from zebra.values import Embeddings, Score


@dataclass(frozen=True, slots=True)
class SetOutcome:
    """One model on one set: the ensemble of all prompts, and the first prompt alone."""

    benchmark: Benchmark
    ensemble: ZeroShot
    one_prompt: ZeroShot

    def scores(self) -> dict[str, dict[str, Score]]:
        """Return task → metric → score."""
        return {"zero-shot": self.ensemble.scores(), "zero-shot-one-prompt": self.one_prompt.scores()}


def run(config: EvaluateConfig, *, watch: Callable[[SetOutcome], None] = lambda _outcome: None) -> Metrics:
    """Evaluate `config.model` on every set and write `out/metrics.json`.

    Raises:
        WeightsError: The model folder is not whole.
        DataError: A set is incomplete or damaged; a subset is never evaluated in silence.
    """
    benchmarks = [read_benchmark(Path(path)) for path in config.datasets]
    clip = load(config.model)
    outcomes = []
    for benchmark in benchmarks:
        outcomes.append(evaluate_set(clip, benchmark))
        watch(outcomes[-1])
    metrics = {outcome.benchmark.name: outcome.scores() for outcome in outcomes}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_metrics(out / "metrics.json", metrics)
    return metrics


def evaluate_set(clip: Bundle, benchmark: Benchmark) -> SetOutcome:
    """Embed the pictures once, then score them with all templates and with the first alone."""
    images = embed(clip, benchmark, range(len(benchmark.source)))
    return SetOutcome(
        benchmark=benchmark,
        ensemble=zero_shot(images, head(clip, benchmark, benchmark.templates)),
        one_prompt=zero_shot(images, head(clip, benchmark, benchmark.templates[:1])),
    )


def head(clip: Bundle, benchmark: Benchmark, templates: Sequence[str]) -> NDArray[np.float32]:
    """Build the class vectors [C, E] of a set."""
    vectors: NDArray[np.float32] = clip.class_vectors(benchmark.classnames, templates).numpy()
    return vectors


def embed(clip: Bundle, benchmark: Benchmark, indices: Iterable[int]) -> Embeddings:
    """Embed the labelled pictures at these positions of a set.

    Raises:
        BadSample: A picture is unusable: a score over the rest would be of another set.
    """
    ids: list[str] = []
    labels: list[int] = []

    def pictures() -> Iterable[bytes]:
        for index in indices:
            record = benchmark.source.read(index)
            ids.append(record.id)
            labels.append(-1 if record.label is None else record.label)
            yield record.image

    vectors = clip.encode_images(pictures()).numpy()
    return Embeddings(vectors, tuple(ids), np.array(labels, dtype=np.int64), clip.fingerprint)


@dataclass(frozen=True, slots=True)
class Check:
    """A zero-shot test small enough to run during training."""

    name: str
    benchmark: Benchmark
    indices: tuple[int, ...]

    def __call__(self, clip: Bundle) -> float:
        """Return top-1 on the chosen pictures, in [0, 1]."""
        images = embed(clip, self.benchmark, self.indices)
        outcome = zero_shot(images, head(clip, self.benchmark, self.benchmark.templates))
        return outcome.scores()["top1"].value


def open_checks(paths: Sequence[str], samples: int) -> list[Check]:
    """Open sets for checks on `samples` pictures of each, evenly spread."""
    checks = []
    for path in paths:
        benchmark = read_benchmark(Path(path))
        found = len(benchmark.source)
        chosen = np.linspace(0, found - 1, min(samples, found)).astype(int)
        checks.append(Check(benchmark.name, benchmark, tuple(chosen.tolist())))
    return checks
