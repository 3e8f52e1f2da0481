"""`zebra demo`: nothing in; a drawn world, a model trained on it, its scores and a report out."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zebra.config.files import read_recipe
from zebra.config.menagerie import DemoConfig, WorldConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_benchmark
from zebra.errors import ConfigError
from zebra.evaluators.results import keep
from zebra.evaluators.zero_shot import Rungs, climb
from zebra.pretrained.load import load
from zebra.report.demo import ABILITIES, write_demo_page
from zebra.train import hooks
from zebra.train.run_dir import RunFolder
from zebra.workflows import menagerie, train
from zebra.workflows.demo_studies import few_shot_studies, robustness_study

CHECKS = ("seen-kinds", "unseen-kinds")
"""Sets whose accuracy is followed during training; nothing is chosen by it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a display may want to hear."""

    drawn: Callable[[int, int], None] = lambda _done, _total: None
    trained: hooks.Watch = lambda _report, _checks: None
    scored: Callable[[Rungs], None] = lambda _outcome: None


def run(config: DemoConfig, watch: Watch = Watch()) -> train.TrainResult:
    """Draw, train, evaluate and report in `config.out`; parts that are there already are kept.

    Returns:
        How training ended; unfinished (stopped on request) means that nothing was evaluated.

    Raises:
        ConfigError: `config.out` is a file, or holds a run with other settings.
    """
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    clock = PhaseClock(out / "phases.json")
    with clock.phase("draw"):
        world = menagerie.run(
            WorldConfig(out=str(out / "menagerie"), samples=config.samples, seed=config.seed),
            watch=watch.drawn,
        )
    recipe = read_recipe(config.recipe) | {
        "data": str(world.train),
        "out": str(out),
        "seed": config.seed,
        "checks": [str(world.evaluation[name]) for name in CHECKS],
    }
    if config.steps is not None:
        recipe |= {"steps": config.steps, "epochs": None}
    with clock.phase("train"):
        result = train.run(structure(TrainConfig, recipe, f"recipe {config.recipe}"), watch=watch.trained)
    if not result.finished:
        return result
    clip, folder = load(out / "model"), RunFolder(out)
    benchmarks = {name: read_benchmark(path) for name, path in world.evaluation.items()}
    rungs = {}
    with clock.phase("evaluate"):
        for name, benchmark in benchmarks.items():
            rungs[name] = climb(clip, benchmark)
            watch.scored(rungs[name])
    if result.already and (out / "results.jsonl").exists():  # written last: all is there
        return result
    with clock.phase("study"):
        probed = few_shot_studies(clip, [benchmarks[name] for name in ABILITIES])
        shifts = robustness_study(clip, folder.checkpoints, benchmarks)
    with clock.phase("report"):
        write_demo_page(folder, world, clip, rungs, probed, shifts)
    outcomes = [outcome for rung in rungs.values() for outcome in rung.outcomes()]
    for study in probed.values():
        outcomes += [study.with_all(), *study.with_few()]
    keep(out, clip, "model", outcomes, split="test", seed=config.seed)
    return result


class PhaseClock:
    """Writes how long each phase took, in seconds, as it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 2)
        self.path.write_text(json.dumps(self.seconds) + "\n", encoding="utf-8")
