"""`zebra train`: captioned images and a config in; a run folder with weights, journal and scores out."""

import json
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from zebra.config.train import TrainConfig
from zebra.data.batches import iter_batches, require_full_batch
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import Source, open_source
from zebra.distributed import ProcessGroup, init_distributed
from zebra.errors import ConfigError
from zebra.evaluators.checks import open_zero_shot_validators
from zebra.evaluators.comparison import BeforeAfter
from zebra.evaluators.results_io import EvalMetrics, write_metrics
from zebra.evaluators.validation import Validator
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import resolve_device
from zebra.report.training import write_training_report
from zebra.train import finetune
from zebra.train.checkpoint import latest_checkpoint
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.hooks import Callback, TrainingHooks
from zebra.train.loop import BatchPreprocessor, train_loop
from zebra.train.metrics_logger import read_log
from zebra.train.patch_dropout import build_patch_dropout
from zebra.train.precision import resolve_precision
from zebra.train.run_dir import RunDir
from zebra.train.setup import build_train_state, open_metrics_logger
from zebra.train.stop import stop_on_signals
from zebra.train.watchdog import RankWatchdog


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    out: Path
    steps: int
    """Steps done in all."""
    is_finished: bool
    """False if it stopped on request, with a checkpoint to go on from."""
    is_up_to_date: bool = False
    """The folder held this very run, complete; nothing was done."""
    before_after: BeforeAfter | None = None
    """What a run that started from a trained model has changed."""


def run(
    config: TrainConfig,
    *,
    resume: str = "auto",
    accept_changes: bool = False,
    callback: Callback = lambda _report, _checks: None,
) -> TrainResult:
    """Train as `config` says, in the folder `config.out`.

    Args:
        resume: auto continues the folder's run if it is the same; never demands an empty folder; otherwise the
            path of a checkpoint to start from.
        accept_changes: Go on from a checkpoint although settings, data or versions are not what they were.
        callback: Called after every step with its report and the checks that ran (set → top-1).

    Raises:
        ConfigError: The folder holds another run, or the settings contradict each other.
        DataError: The data cannot be read, is smaller than a batch, or too much of it is bad.
        RankError: Of the processes that torchrun started, one is silent or gone.
        WeightsError: There are checkpoints, and every one of them is damaged.
        CheckpointError: A checkpoint could not be written; the one before it is untouched.
    """
    with init_distributed(config.rank_timeout) as world:
        roll = RankWatchdog(world, config.rank_timeout)
        with roll.guard():
            config = replace(config, precision=resolve_precision(config.precision, resolve_device("auto")))
            folder = RunDir(Path(config.out))
            source: Source = open_source(config.data, config.data_options)
            checks: list[Validator] = [
                *open_zero_shot_validators(config.eval_sets, config.eval_samples, world)
            ]
            start = (
                finetune.FineTuning.from_config(config, source, checks, world) if config.finetune else None
            )
            source, checks = (start.train_source, start.validators) if start else (source, checks)
            require_full_batch(source, config.batch_size)
            claim = world.broadcast_from_main(lambda: folder.run_status(config, resume))
            if claim == "finished":
                return TrainResult(
                    folder.path, count_total_steps(config, source, 0, 0), is_finished=True, is_up_to_date=True
                )
            with folder.lock() if world.is_main_process else nullcontext():
                return _run_training(
                    config,
                    folder,
                    source,
                    checks,
                    start,
                    world.broadcast_from_main(
                        lambda: find_checkpoint(folder, resume, status=claim == "begun")
                    ),
                    accept_changes=accept_changes,
                    watch=callback,
                    world=world,
                    roll=roll,
                )


def _run_training(
    config: TrainConfig,
    folder: RunDir,
    source: Source,
    checks: list[Validator],
    start: finetune.FineTuning | None,
    checkpoint: Path | None,
    *,
    accept_changes: bool,
    watch: Callback,
    world: ProcessGroup,
    roll: RankWatchdog,
) -> TrainResult:
    """Train from a checkpoint, or from the beginning, to the end or until somebody asks to stop."""
    session, towers = build_train_state(
        config, folder, source, start, checkpoint, accept_changes=accept_changes, group=world
    )
    if start and not session.step:
        with session.eval_bundle() as bundle:
            session.best_score = start.mean_score(bundle)
    steps = count_total_steps(config, source, session.step, session.samples_seen)
    journal = (
        open_metrics_logger(config, folder, session, is_resumed=checkpoint is not None)
        if world.is_main_process
        else None
    )
    with stop_on_signals() as stop:
        with CheckpointWriter(folder.checkpoints, config.keep_checkpoints, world) as writer:
            follow = TrainingHooks(session, config, journal, checks, writer, stop, watch, roll)
            train_loop(
                session.bundle.model,
                session.optimizer,
                iter_batches(
                    source,
                    image_size=config.model.image_size,
                    batch_size=config.batch_size,
                    seed=config.seed,
                    start_sample=session.samples_seen,
                    num_steps=steps - session.step,
                    num_workers=config.workers,
                    config=config.data_options,
                    rank=world.rank,
                    world_size=world.world_size,
                    timeout_seconds=config.worker_timeout,
                ),
                BatchPreprocessor(
                    normalize=session.bundle.preprocess.normalize,
                    tokenize=session.tokenizer,
                    sample_patches=build_patch_dropout(config, world, session.bundle.device),
                ),
                config,
                start_step=session.step,
                samples_seen=session.samples_seen,
                total_steps=steps,
                callback=follow,
                group=world,
                forward_fn=towers,
            )
        counts = {**session.sample_counter.summary(), "truncated_captions": session.num_truncated_captions}
        if world.is_main_process:
            folder.sample_counts.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        gain = None
        if start and not follow.interrupted:
            roll.heartbeat("the comparison with the start")
            gain = start.finalize(session, folder.checkpoints, config.eval_sets)
        with session.eval_bundle() as bundle:
            metrics = evaluate_final_model(bundle, config, follow, world)
            if follow.interrupted:
                return TrainResult(folder.path, session.step, is_finished=False)
            roll.stop()
            if not world.is_main_process:
                return TrainResult(folder.path, session.step, is_finished=True, before_after=gain)
            metrics = merge_metrics(metrics, gain.metrics()) if gain else metrics
            write_metrics(folder.metrics, metrics)
            sections = [gain.before_after_section()] if gain else []
            write_training_report(folder.report, read_log(folder.log), counts, metrics, sections)
            # Last, since it marks the run as finished.
            card = model_card_entries(config, source, session.step, metrics) | (
                gain.model_card_entries() if gain else {}
            )
            ordinary = start.merge_lora(bundle, folder.adapter) if start else bundle
            ordinary.save(folder.model, card)
    return TrainResult(folder.path, session.step, is_finished=True, before_after=gain)


def count_total_steps(config: TrainConfig, source: Source, step: int, samples_seen: int) -> int:
    """Return the steps of the whole run, of which `step` are done and have consumed `samples_seen` samples."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return step + max(0, math.ceil((config.epochs * len(source) - samples_seen) / config.batch_size))


def find_checkpoint(run_dir: RunDir, resume: str, *, status: bool) -> Path | None:
    """Return the verified checkpoint to go on from; None for a run that starts at the beginning.

    Raises:
        ConfigError: `resume` names no checkpoint.
        WeightsError: It is damaged, or all of the folder's are.
    """
    if resume in ("auto", "never"):
        return latest_checkpoint(run_dir.checkpoints) if status else None
    if not (Path(resume) / "MANIFEST.json").is_file():
        raise ConfigError(f"--resume {resume} is neither auto, never nor a checkpoint folder")
    return Path(resume)


def evaluate_final_model(
    bundle: Bundle, config: TrainConfig, hooks: TrainingHooks, group: ProcessGroup
) -> EvalMetrics:
    """Evaluate the sets of the checks whole, as many as there are before somebody asks to stop."""
    metrics = {}
    for path in config.eval_sets:
        if hooks.poll_interrupted():
            break
        benchmark = read_classification(Path(path))
        hooks.watchdog.heartbeat(f"the evaluation on {benchmark.name}")
        metrics[benchmark.name] = evaluate_zero_shot(bundle, benchmark, group=group).scores()
    hooks.poll_interrupted()
    return metrics


def merge_metrics(metrics: EvalMetrics, others: EvalMetrics) -> EvalMetrics:
    """Join the tasks of each set."""
    return {name: {**metrics.get(name, {}), **others.get(name, {})} for name in (*metrics, *others)}


def model_card_entries(
    config: TrainConfig, source: Source, steps: int, metrics: EvalMetrics
) -> dict[str, str]:
    """Say in the model card what the model learned from, and how well."""
    origin = {
        "training": f"{steps:,} steps of {config.batch_size} pairs, from {len(source):,} pairs found",
        "data digest": source.digest[:16],
        "seed": str(config.seed),
    }
    best = {name: tasks["zero-shot"]["top1"] for name, tasks in metrics.items() if "zero-shot" in tasks}
    scores = {
        f"zero-shot top-1 on {name}": f"{top1.value:.1%} [{top1.low:.1%}, {top1.high:.1%}], n={top1.n}"
        for name, top1 in best.items()
    }
    return origin | scores
