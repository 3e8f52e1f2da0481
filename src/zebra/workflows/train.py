"""`zebra train`: captioned images and a config in; a run folder with weights, journal and scores out."""

import json
import math
import random
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from zebra.config.train import TrainConfig
from zebra.data.batches import batches, require_batch
from zebra.data.benchmarks import read_benchmark
from zebra.data.ledger import Ledger
from zebra.data.sources import Source, open_source
from zebra.distributed import World, joined
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import pick_device
from zebra.report.results import Metrics, write_metrics
from zebra.report.run import write_run_report
from zebra.text.tokenizer import Tokenizer
from zebra.train.checkpoint import newest_whole, read_checkpoint
from zebra.train.ema import WeightAverage
from zebra.train.environment import environment
from zebra.train.folder import RunFolder
from zebra.train.identity import identity, require_alike
from zebra.train.journal import Journal, open_sinks, read_journal
from zebra.train.loop import Prepare, StepReport, train
from zebra.train.optimizer import adamw
from zebra.train.parallel import Towers, spread
from zebra.train.passes import compile_blocks, forget_activations
from zebra.train.patches import patch_dropout
from zebra.train.precision import settle
from zebra.train.roll import RollCall
from zebra.train.session import Session, TokenCounter
from zebra.train.stop import StopRequest, stop_on_signals
from zebra.train.writer import CheckpointWriter
from zebra.workflows import finetune
from zebra.workflows.checks import open_checks
from zebra.workflows.zeroshot import climb

VOCABULARY_SAMPLES = 20_000
"""Samples whose captions a vocabulary is trained on, spread over the data."""
MACHINE = ("python", "processor", "threads", "accelerator")
"""Parts of the environment that may change the last bits of a sum, but need not stop a run that goes on elsewhere."""

Watch = Callable[[StepReport, Mapping[str, float]], None]


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
    gain: finetune.Gain | None = None
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
            checks: list[finetune.Judge] = [*open_checks(config.checks, config.check_samples, world)]
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
    checks: list[finetune.Judge],
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
    require_alike(world, config, session.identity)
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
            gain = start.settle(session, folder.checkpoints, config.checks)
        with session.averaged() as bundle:
            metrics = final_scores(bundle, config, follow, world)
            if follow.stopped:
                return TrainResult(folder.path, session.step, finished=False)
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


class Follower:
    """What happens after each step: counting, checks, journal, checkpoints."""

    def __init__(
        self,
        session: Session,
        config: TrainConfig,
        journal: Journal | None,
        checks: list[finetune.Judge],
        writer: CheckpointWriter,
        stop: StopRequest,
        watch: Watch,
        roll: RollCall,
    ) -> None:
        self.session = session
        self.config = config
        self.journal = journal
        self.checks = checks
        self.writer = writer
        self.stop = stop
        self.watch = watch
        self.roll = roll
        self.stopped = False
        """Whether somebody asked any process of the run to stop."""
        self._saved_at = time.monotonic()

    def __call__(self, report: StepReport) -> bool:
        """Take in one step; return whether to go on."""
        self.roll.note(f"step {report.step}")
        self.writer.check()
        is_late, report = self._agree(report)
        self.session.advance(report)
        spike = self.session.spikes.add(report.figures.loss)
        if spike:
            warnings.warn(
                f"the loss shot up before step {report.step} and stays up; a smaller --lr or --optimizer.beta2 "
                "prevents the next time",
                stacklevel=1,
            )
        last = report.step == report.steps
        due = report.step % self.config.check_every == 0 or last
        results = self._check() if due else {}
        if self.journal:
            self.journal.add(report, results, spike=spike)
        self.watch(report, results)
        score = fmean(results.values()) if results else None
        is_due = is_late or report.step % self.config.checkpoint_every == 0
        if self._is_best(score) or is_due or self.stopped or last:
            if self.journal:
                self.journal.flush()
            self.writer.save(self.session.snapshot(score))
            self._saved_at = time.monotonic()
        return not (self.stopped or self._is_stale())

    def _agree(self, report: StepReport) -> tuple[bool, StepReport]:
        """Settle with the other processes whether to stop and whether to save; add their skips to the report."""
        world = self.session.world
        is_late = time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes
        told = [self.stop.requested, is_late and world.leads, bool(report.batch.skips)]
        self.stopped, is_late, has_skips = map(
            bool, world.max(torch.tensor(told, dtype=torch.int32)).tolist()
        )
        if has_skips and world.size > 1:
            skips = tuple(skip for some in world.objects(report.batch.skips) for skip in some)
            report = replace(report, batch=replace(report.batch, skips=skips))
        return is_late, report

    def was_stopped(self) -> bool:
        """Ask all processes whether somebody wants the run to stop; all must ask."""
        told = torch.tensor(self.stopped or self.stop.requested, dtype=torch.int32)
        self.stopped = bool(self.session.world.max(told))
        return self.stopped

    def _is_stale(self) -> bool:
        patience = self.config.finetune.patience if self.config.finetune else math.inf
        return self.session.stale >= patience

    def _check(self) -> dict[str, float]:
        with self.session.averaged() as bundle:
            results = {}
            for check in self.checks:
                self.roll.note(f"the check on {check.name}")
                results[check.name] = check(bundle)
        # What decides must be the same everywhere; processors may differ in the last bits.
        return self.session.world.objects(results)[0]

    def _is_best(self, score: float | None) -> bool:
        if score is None:
            return False
        if self.session.best is not None and score <= self.session.best:
            self.session.stale += 1
            return False
        self.session.best, self.session.stale = score, 0
        return True


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


def open_session(
    config: TrainConfig,
    folder: RunFolder,
    source: Source,
    start: finetune.Start | None,
    checkpoint: Path | None,
    *,
    accept_changes: bool,
    world: World,
) -> tuple[Session, Towers]:
    """Build model, tokenizer and optimizer, spread them over the processes, and take them to where the run stands.

    Args:
        start: The trained model to begin with, if it is not to be a new one.
        checkpoint: Where to go on from. The vocabulary is that of its run.
        accept_changes: Go on although not everything is what it was there.
        world: The processes of the run.

    Returns:
        The run, and what to call in its steps in place of the model.
    """
    device = pick_device("auto")
    words = None if start else open_tokenizer(config, source, checkpoint)
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    bundle = start.unlocked() if start else new_bundle(config, words, device)
    model, tokenizer = bundle.model, bundle.require_words()
    if config.compile:
        compile_blocks(model)
    if config.checkpoint_activations:
        forget_activations(model)
    towers = spread(model, world, config.parallel)
    session = Session(
        bundle,
        adamw(model, config.optimizer, config.finetune.layer_decay if config.finetune else 1.0),
        None if config.ema_decay is None else WeightAverage(model, config.ema_decay),
        Ledger(len(source), config.data_options.max_skip_rate, folder.skipped if world.leads else None),
        TokenCounter(tokenizer),
        identity(config, source.digest, tokenizer.fingerprint, device)
        | ({"start": start.fingerprint} if start else {}),
        world=world,
    )
    if checkpoint is not None:
        if not checkpoint.is_dir():
            raise ConfigError(
                f"rank 0 goes on from {checkpoint}, which rank {world.rank} does not see; --out must be one folder "
                "that all machines share"
            )
        session.restore(read_checkpoint(checkpoint), str(checkpoint), accept_changes=accept_changes)
    return session, towers


def open_journal(config: TrainConfig, folder: RunFolder, session: Session, *, resumed: bool) -> Journal:
    """Write down what the run is about to do, and open its journal where it goes on."""
    folder.begin(config)
    session.bundle.require_words().save(folder.tokenizer)
    record_environment(folder, session.accepted, resumed=resumed)
    journal = Journal(folder.journal, config.log, open_sinks(folder.path, config.log))
    journal.rewind(session.step)
    return journal


def record_environment(folder: RunFolder, accepted: list[str], *, resumed: bool) -> None:
    """Write `environment.json` with the changes accepted so far, and warn if the run goes on where others began it."""
    now = environment()
    before: dict[str, Any] = {}
    if resumed and folder.environment.is_file():
        before = json.loads(folder.environment.read_text(encoding="utf-8"))
        moved = [
            f"{name}: {before.get(name)} → {now[name]}" for name in MACHINE if before.get(name) != now[name]
        ]
        if moved:
            warnings.warn(
                f"this is not where the run began ({'; '.join(moved)}): it goes on with the same samples in the same "
                "order, but the last bits of its numbers may differ",
                stacklevel=2,
            )
    now["accepted_changes"] = before.get("accepted_changes", []) + accepted
    folder.environment.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def new_bundle(config: TrainConfig, words: Tokenizer | None, device: torch.device) -> Bundle:
    """Make a model of random weights, with as many tokens as the vocabulary has."""
    assert words is not None
    sized = replace(config.model, text=replace(config.model.text, vocab_size=words.vocab_size))
    return Bundle(CLIP(sized).to(device), words, Preprocess(image_size=config.model.image_size))


def open_tokenizer(config: TrainConfig, source: Source, checkpoint: Path | None = None) -> Tokenizer:
    """Read the tokenizer of the checkpoint's run, or the one that the config names, or train one on the captions."""
    if checkpoint is not None:
        its_run = RunFolder(checkpoint.absolute().parent.parent)
        return Tokenizer.load(its_run.tokenizer, config.model.text.context_length)
    context_length = config.model.text.context_length
    if config.tokenizer is None:
        return Tokenizer.train(_some_captions(source), config.model.text.vocab_size, context_length)
    if config.tokenizer.endswith(".json"):
        return Tokenizer.load(config.tokenizer, context_length)
    return Tokenizer.from_merges(config.tokenizer, context_length)


def _some_captions(source: Source) -> list[str]:
    """Read the captions of up to VOCABULARY_SAMPLES samples, evenly spread; bad ones are counted later."""
    captions: list[str] = []
    for index in range(0, len(source), max(1, len(source) // VOCABULARY_SAMPLES)):
        try:
            captions.extend(source.read(index).captions)
        except BadSample:
            continue
    if not captions:
        raise DataError(f"{source.name}: not one usable caption to learn a vocabulary from")
    return captions


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
