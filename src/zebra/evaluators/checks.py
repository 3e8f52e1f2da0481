"""Zero-shot tests small enough to run during training: paths of sets in; callables that take a model out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zebra.data.benchmarks.clip_benchmark import Benchmark, read_benchmark
from zebra.distributed import ALONE, World
from zebra.evaluators.embeddings import embed_shared
from zebra.evaluators.zero_shot import head, prompts_for
from zebra.pretrained.bundle import Bundle
from zebra.protocols.zero_shot import zero_shot


@dataclass(frozen=True, slots=True)
class Check:
    """Top-1 on some pictures of a set; on all of them it is the number that `zebra evaluate` gives."""

    name: str
    benchmark: Benchmark
    indices: tuple[int, ...]
    world: World = ALONE
    """The processes that embed a share of the pictures each."""

    def __call__(self, clip: Bundle) -> float:
        """Return top-1 on the chosen pictures, in [0, 1]."""
        images = embed_shared(clip, self.benchmark.source, self.indices, self.world)
        return zero_shot(images, head(clip, prompts_for(self.benchmark, "own"))).scores()["top1"].value


def open_checks(paths: Sequence[str], samples: int, world: World = ALONE) -> list[Check]:
    """Open sets for checks on `samples` pictures of each, evenly spread."""
    checks = []
    for path in paths:
        benchmark = read_benchmark(Path(path))
        found = len(benchmark.source)
        chosen = np.linspace(0, found - 1, min(samples, found)).astype(int)
        checks.append(Check(benchmark.name, benchmark, tuple(chosen.tolist()), world))
    return checks
