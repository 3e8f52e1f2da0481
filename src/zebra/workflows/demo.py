"""`zebra demo`: draw the menagerie, train on it, evaluate and report."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zebra.config.demo import DemoConfig
from zebra.config.files import read_recipe
from zebra.config.menagerie import MenagerieConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import ConfigError, DataError
from zebra.evaluators.linear_probe import ProbeResults, evaluate_probes
from zebra.evaluators.results import save_results
from zebra.evaluators.validation import ZeroShotValidator
from zebra.evaluators.zero_shot import PromptAblation, evaluate_zero_shot, resolve_prompts
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import resolve_device
from zebra.pretrained.load import load
from zebra.pretrained.shared_cores import share_cores
from zebra.protocols.robustness import ShiftRobustness, evaluate_robustness
from zebra.report.demo import DEMO_LIMITATION_DATASETS, FINAL_MODEL, write_demo_report
from zebra.train import hooks
from zebra.train.checkpoint import list_checkpoints, load_checkpoint
from zebra.train.run_dir import RunDir
from zebra.workflows import train
from zebra.workflows.menagerie import run as draw_menagerie

TRAINING_EVAL_SETS = ("seen-kinds", "unseen-kinds")
"""Datasets that training evaluates; nothing is selected by these scores."""
STANDARD_DATASET = "seen-kinds"
SHIFTED_DATASETS = ("sketch", "inverted", "noisy")
IMAGES_PER_DATASET = 400
"""Images of each dataset on which every checkpoint is evaluated, evenly spaced."""


@dataclass(frozen=True, slots=True)
class DemoCallbacks:
    """Functions that report progress."""

    on_draw: Callable[[int, int], None] = lambda _done, _total: None
    on_train_step: hooks.Callback = lambda _report, _scores: None
    on_evaluate: Callable[[PromptAblation], None] = lambda _ablation: None


@share_cores()
def run(config: DemoConfig, callbacks: DemoCallbacks = DemoCallbacks()) -> train.TrainResult:
    """Draw, train, evaluate and write the report in `config.out`; finished parts are not repeated.

    Returns:
        How training ended. If it was interrupted, nothing is evaluated.

    Raises:
        ConfigError: `config.out` is a file, or contains a run with other settings, or the device is not available.
    """
    resolve_device(config.device)  # before minutes of drawing
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file. Name a directory.")
    timer = PhaseTimer(out / "phases.json")
    with timer.time_phase("draw"):
        menagerie = draw_menagerie(
            MenagerieConfig(out=str(out / "menagerie"), samples=config.samples, seed=config.seed),
            callback=callbacks.on_draw,
        )
    recipe = read_recipe(config.recipe) | {
        "data": str(menagerie.train_dir),
        "out": str(out),
        "seed": config.seed,
        "device": config.device,
        "eval_sets": [str(menagerie.evaluation_dirs[name]) for name in TRAINING_EVAL_SETS],
    }
    if config.steps is not None:
        recipe |= {"steps": config.steps, "epochs": None}
    with timer.time_phase("train"):
        result = train.run(structure(TrainConfig, recipe, f"recipe {config.recipe}"), callback=callbacks.on_train_step)
    if not result.is_finished:
        return result
    clip, run_dir = load(out / "model", device=config.device), RunDir(out)
    benchmarks = {name: read_classification(path) for name, path in menagerie.evaluation_dirs.items()}
    ablations = {}
    with timer.time_phase("evaluate"):
        for name, benchmark in benchmarks.items():
            ablations[name] = evaluate_zero_shot(clip, benchmark)
            callbacks.on_evaluate(ablations[name])
    if result.is_up_to_date and (out / "results.jsonl").exists():  # the last file that this function writes
        return result
    with timer.time_phase("study"):
        probe_results = evaluate_demo_probes(clip, [benchmarks[name] for name in DEMO_LIMITATION_DATASETS])
        shifts = evaluate_checkpoint_robustness(clip, run_dir.checkpoints, benchmarks)
    with timer.time_phase("report"):
        write_demo_report(run_dir, menagerie, clip, ablations, probe_results, shifts)
    task_results = [task_result for ablation in ablations.values() for task_result in ablation.task_results()]
    for probes in probe_results.values():
        task_results += [probes.linear_probe(), *probes.few_shot()]
    save_results(out, clip, "model", task_results, split="test", seed=config.seed)
    return result


def evaluate_demo_probes(clip: Bundle, benchmarks: Iterable[ClassificationBenchmark]) -> dict[str, ProbeResults]:
    """Fit linear probes on each dataset, with few and with all training examples."""
    return {
        benchmark.name: evaluate_probes(clip, benchmark, None, resolve_prompts(benchmark, "dataset", clip.templates))
        for benchmark in benchmarks
    }


def evaluate_checkpoint_robustness(
    clip: Bundle, checkpoints: Path, benchmarks: Mapping[str, ClassificationBenchmark]
) -> tuple[ShiftRobustness, ...]:
    """Evaluate the final model against the line of its earlier checkpoints; return () for too few checkpoints.

    The paper's reference models were trained on the standard dataset alone, and so were these. The result shows
    whether the end of training changed robustness more or less than accuracy on the standard dataset predicts.
    """
    validators = {
        name: ZeroShotValidator(benchmarks[name], IMAGES_PER_DATASET) for name in (STANDARD_DATASET, *SHIFTED_DATASETS)
    }
    accuracies = {FINAL_MODEL: {name: validator.score(clip) for name, validator in validators.items()}}
    for path in list_checkpoints(checkpoints)[:-1]:  # the last checkpoint is the final model
        snapshot = load_checkpoint(path)
        model = CLIP(clip.model.config)
        model.load_state_dict(dict(snapshot.tensors["model"]))
        earlier = Bundle(model.to(clip.device).eval(), clip.tokenizer, clip.preprocess)
        accuracies[f"step {snapshot.step}"] = {name: validator.score(earlier) for name, validator in validators.items()}
    references = [name for name in accuracies if name != FINAL_MODEL]
    try:
        return evaluate_robustness(
            accuracies, STANDARD_DATASET, references, references[0] if references else FINAL_MODEL
        )
    except DataError:  # a short run has too few checkpoints, or all have the same accuracy
        return ()


class PhaseTimer:
    """Record the duration of each phase, in seconds, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds_by_phase: dict[str, float] = {}

    @contextmanager
    def time_phase(self, name: str) -> Iterator[None]:
        """Time the block and write the file when it ends."""
        start = time.perf_counter()
        yield
        self.seconds_by_phase[name] = round(time.perf_counter() - start, 2)
        self.path.write_text(json.dumps(self.seconds_by_phase) + "\n", encoding="utf-8")
