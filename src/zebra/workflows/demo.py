"""`zebra demo`: nothing in; a drawn world, a model trained on it, its scores and a report out."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zebra.config.files import read_recipe
from zebra.config.demo import DemoConfig
from zebra.config.menagerie import MenagerieConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.errors import ConfigError
from zebra.evaluators.results import save_results
from zebra.evaluators.zero_shot import PromptAblation, evaluate_zero_shot
from zebra.pretrained.load import load
from zebra.report.demo import DEMO_LIMITATION_DATASETS, write_demo_report
from zebra.train import hooks
from zebra.train.run_dir import RunDir
from zebra.workflows import menagerie, train
from zebra.workflows.demo_studies import evaluate_checkpoint_robustness, evaluate_demo_probes

TRAINING_EVAL_SETS = ("seen-kinds", "unseen-kinds")
"""Sets whose accuracy is followed during training; nothing is chosen by it."""


@dataclass(frozen=True, slots=True)
class DemoCallbacks:
    """What a display may want to hear."""

    on_draw: Callable[[int, int], None] = lambda _done, _total: None
    on_train_step: hooks.Callback = lambda _report, _checks: None
    on_evaluate: Callable[[PromptAblation], None] = lambda _outcome: None


def run(config: DemoConfig, callbacks: DemoCallbacks = DemoCallbacks()) -> train.TrainResult:
    """Draw, train, evaluate and report in `config.out`; parts that are there already are kept.

    Returns:
        How training ended; unfinished (stopped on request) means that nothing was evaluated.

    Raises:
        ConfigError: `config.out` is a file, or holds a run with other settings.
    """
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    clock = PhaseTimer(out / "phases.json")
    with clock.time_phase("draw"):
        world = menagerie.run(
            MenagerieConfig(out=str(out / "menagerie"), samples=config.samples, seed=config.seed),
            callback=callbacks.on_draw,
        )
    recipe = read_recipe(config.recipe) | {
        "data": str(world.train_dir),
        "out": str(out),
        "seed": config.seed,
        "eval_sets": [str(world.evaluation_dirs[name]) for name in TRAINING_EVAL_SETS],
    }
    if config.steps is not None:
        recipe |= {"steps": config.steps, "epochs": None}
    with clock.time_phase("train"):
        result = train.run(
            structure(TrainConfig, recipe, f"recipe {config.recipe}"), callback=callbacks.on_train_step
        )
    if not result.is_finished:
        return result
    clip, folder = load(out / "model"), RunDir(out)
    benchmarks = {name: read_classification(path) for name, path in world.evaluation_dirs.items()}
    rungs = {}
    with clock.time_phase("evaluate"):
        for name, benchmark in benchmarks.items():
            rungs[name] = evaluate_zero_shot(clip, benchmark)
            callbacks.on_evaluate(rungs[name])
    if result.is_up_to_date and (out / "results.jsonl").exists():  # written last: all is there
        return result
    with clock.time_phase("study"):
        probed = evaluate_demo_probes(clip, [benchmarks[name] for name in DEMO_LIMITATION_DATASETS])
        shifts = evaluate_checkpoint_robustness(clip, folder.checkpoints, benchmarks)
    with clock.time_phase("report"):
        write_demo_report(folder, world, clip, rungs, probed, shifts)
    outcomes = [outcome for rung in rungs.values() for outcome in rung.task_results()]
    for study in probed.values():
        outcomes += [study.linear_probe(), *study.few_shot()]
    save_results(out, clip, "model", outcomes, split="test", seed=config.seed)
    return result


class PhaseTimer:
    """Writes how long each phase took, in seconds, as it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds_by_phase: dict[str, float] = {}

    @contextmanager
    def time_phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        began = time.perf_counter()
        yield
        self.seconds_by_phase[name] = round(time.perf_counter() - began, 2)
        self.path.write_text(json.dumps(self.seconds_by_phase) + "\n", encoding="utf-8")
