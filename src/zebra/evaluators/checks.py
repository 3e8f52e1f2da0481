"""Zero-shot tests small enough to run during training: paths of sets in; callables that take a model out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.evaluators.embeddings import embed_distributed
from zebra.evaluators.zero_shot import build_zero_shot_classifier, resolve_prompts
from zebra.pretrained.bundle import Bundle
from zebra.protocols.zero_shot import classify_zero_shot


@dataclass(frozen=True, slots=True)
class ZeroShotValidator:
    """Top-1 on some pictures of a set; on all of them it is the number that `zebra evaluate` gives."""

    name: str
    benchmark: ClassificationBenchmark
    indices: tuple[int, ...]
    group: ProcessGroup = SINGLE_PROCESS
    """The processes that embed a share of the pictures each."""

    def __call__(self, clip: Bundle) -> float:
        """Return top-1 on the chosen pictures, in [0, 1]."""
        images = embed_distributed(clip, self.benchmark.source, self.indices, self.group)
        return (
            classify_zero_shot(
                images, build_zero_shot_classifier(clip, resolve_prompts(self.benchmark, "dataset"))
            )
            .scores()["top1"]
            .value
        )


def open_zero_shot_validators(
    paths: Sequence[str], num_samples: int, group: ProcessGroup = SINGLE_PROCESS
) -> list[ZeroShotValidator]:
    """Open sets for checks on `num_samples` pictures of each, evenly spread."""
    checks = []
    for path in paths:
        benchmark = read_classification(Path(path))
        found = len(benchmark.source)
        chosen = np.linspace(0, found - 1, min(num_samples, found)).astype(int)
        checks.append(ZeroShotValidator(benchmark.name, benchmark, tuple(chosen.tolist()), group))
    return checks
