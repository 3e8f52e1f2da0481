"""`zebra train`: captioned images and a config in; a run folder with weights, journal and scores out."""

import json
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from zebra.config.train import TrainConfig
from zebra.data.batches import batches, require_batch
from zebra.data.benchmarks.clip_benchmark import read_benchmark
from zebra.data.sources import Source, open_source
from zebra.distributed import World, joined
from zebra.errors import ConfigError
from zebra.evaluators.checks import open_checks
from zebra.evaluators.comparison import Gain
from zebra.evaluators.results_io import Metrics, write_metrics
from zebra.evaluators.validation import Judge
from zebra.evaluators.zero_shot import climb
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import pick_device
from zebra.report.training import write_run_report
from zebra.train import finetune
from zebra.train.checkpoint import newest_whole
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.hooks import Follower, Watch
from zebra.train.loop import Prepare, train
from zebra.train.metrics_logger import read_journal
from zebra.train.patch_dropout import patch_dropout
from zebra.train.precision import settle
from zebra.train.run_dir import RunFolder
from zebra.train.setup import open_journal, open_session
from zebra.train.stop import stop_on_signals
from zebra.train.watchdog import RollCall


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    out: Path
    steps: int
    """Steps done in all."""
    finished: bool
    """False if it stopped on request, with a checkpoint to go on from."""
    already: bool = False
    """The folder held this very run, complete; nothing was done."""
    gain: Gain | None = None
    """What a run that started from a trained model has changed."""


def run(
    config: TrainConfig,
    *,
    resume: str = "auto",
    accept_changes: bool = False,
    watch: Watch = lambda _report, _checks: None,
) -> TrainResult:
    """Train as `config` says, in the folder `config.out`.

    Args:
        resume: auto continues the folder's run if it is the same; never demands an empty folder; otherwise the
            path of a checkpoint to start from.
        accept_changes: Go on from a checkpoint although settings, data or versions are not what they were.
        watch: Called after every step with its report and the checks that ran (set → top-1).

    Raises:
        ConfigError: The folder holds another run, or the settings contradict each other.
        DataError: The data cannot be read, is smaller than a batch, or too much of it is bad.
        RankError: Of the processes that torchrun started, one is silent or gone.
        WeightsError: There are checkpoints, and every one of them is damaged.
        CheckpointError: A checkpoint could not be written; the one before it is untouched.
    """
    with joined(config.rank_timeout) as world:
        roll = RollCall(world, config.rank_timeout)
        with roll.kept():
            config = replace(config, precision=settle(config.precision, pick_device("auto")))
            folder = RunFolder(Path(config.out))
            source: Source = open_source(config.data, config.data_options)
            checks: list[Judge] = [*open_checks(config.checks, config.check_samples, world)]
            start = finetune.Start.open(config, source, checks, world) if config.finetune else None
            source, checks = (start.learn, start.judges) if start else (source, checks)
            require_batch(source, config.batch_size)
            claim = world.led(lambda: folder.claim(config, resume))
            if claim == "finished":
                return TrainResult(folder.path, length(config, source, 0, 0), finished=True, already=True)
            with folder.locked() if world.leads else nullcontext():
                return go_on(
                    config,
                    folder,
                    source,
                    checks,
                    start,
                    world.led(lambda: find_checkpoint(folder, resume, begun=claim == "begun")),
                    accept_changes=accept_changes,
                    watch=watch,
                    world=world,
                    roll=roll,
                )


def go_on(
    config: TrainConfig,
    folder: RunFolder,
    source: Source,
    checks: list[Judge],
    start: finetune.Start | None,
    checkpoint: Path | None,
    *,
    accept_changes: bool,
    watch: Watch,
    world: World,
    roll: RollCall,
) -> TrainResult:
    """Train from a checkpoint, or from the beginning, to the end or until somebody asks to stop."""
    session, towers = open_session(
        config, folder, source, start, checkpoint, accept_changes=accept_changes, world=world
    )
    if start and not session.step:
        with session.averaged() as bundle:
            session.best = start.score(bundle)
    steps = length(config, source, session.step, session.position)
    journal = open_journal(config, folder, session, resumed=checkpoint is not None) if world.leads else None
    with stop_on_signals() as stop:
        with CheckpointWriter(folder.checkpoints, config.keep_checkpoints, world) as writer:
            follow = Follower(session, config, journal, checks, writer, stop, watch, roll)
            train(
                session.bundle.model,
                session.optimizer,
                batches(
                    source,
                    image_size=config.model.image_size,
                    batch_size=config.batch_size,
                    seed=config.seed,
                    start=session.position,
                    steps=steps - session.step,
                    workers=config.workers,
                    options=config.data_options,
                    rank=world.rank,
                    ranks=world.size,
                    timeout=config.worker_timeout,
                ),
                Prepare(
                    pixels=session.bundle.preprocess.normalise,
                    tokens=session.tokens,
                    seen=patch_dropout(config, world, session.bundle.device),
                ),
                config,
                start=session.step,
                position=session.position,
                steps=steps,
                on_step=follow,
                world=world,
                towers=towers,
            )
        counts = {**session.ledger.summary(), "truncated_captions": session.truncated_captions}
        if world.leads:
            folder.data.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        gain = None
        if start and not follow.stopped:
            roll.note("the comparison with the start")
            gain = start.settle(session, folder.checkpoints, config.checks)
        with session.averaged() as bundle:
            metrics = final_scores(bundle, config, follow, world)
            if follow.stopped:
                return TrainResult(folder.path, session.step, finished=False)
            roll.rest()
            if not world.leads:
                return TrainResult(folder.path, session.step, finished=True, gain=gain)
            metrics = merged(metrics, gain.metrics()) if gain else metrics
            write_metrics(folder.metrics, metrics)
            sections = [gain.section()] if gain else []
            write_run_report(folder.report, read_journal(folder.journal), counts, metrics, sections)
            # Last, since it marks the run as finished.
            card = facts(config, source, session.step, metrics) | (gain.facts() if gain else {})
            ordinary = start.folded(bundle, folder.adapter) if start else bundle
            ordinary.save(folder.model, card)
    return TrainResult(folder.path, session.step, finished=True, gain=gain)


def length(config: TrainConfig, source: Source, step: int, position: int) -> int:
    """Return the steps of the whole run, of which `step` are done and have consumed `position` samples."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return step + max(0, math.ceil((config.epochs * len(source) - position) / config.batch_size))


def find_checkpoint(folder: RunFolder, resume: str, *, begun: bool) -> Path | None:
    """Return the verified checkpoint to go on from; None for a run that starts at the beginning.

    Raises:
        ConfigError: `resume` names no checkpoint.
        WeightsError: It is damaged, or all of the folder's are.
    """
    if resume in ("auto", "never"):
        return newest_whole(folder.checkpoints) if begun else None
    if not (Path(resume) / "MANIFEST.json").is_file():
        raise ConfigError(f"--resume {resume} is neither auto, never nor a checkpoint folder")
    return Path(resume)


def final_scores(bundle: Bundle, config: TrainConfig, follow: Follower, world: World) -> Metrics:
    """Evaluate the sets of the checks whole, as many as there are before somebody asks to stop."""
    metrics = {}
    for path in config.checks:
        if follow.was_stopped():
            break
        benchmark = read_benchmark(Path(path))
        follow.roll.note(f"the evaluation on {benchmark.name}")
        metrics[benchmark.name] = climb(bundle, benchmark, world=world).scores()
    follow.was_stopped()
    return metrics


def merged(metrics: Metrics, more: Metrics) -> Metrics:
    """Join the tasks of each set."""
    return {name: {**metrics.get(name, {}), **more.get(name, {})} for name in (*metrics, *more)}


def facts(config: TrainConfig, source: Source, steps: int, metrics: Metrics) -> dict[str, str]:
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
