"""`zebra train`: captioned images and a config in; a run folder with weights, journal and scores out."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zebra.config.train import TrainConfig
from zebra.data.batches import Ledger, batches, require_batch
from zebra.data.benchmarks import read_benchmark
from zebra.data.sources import Source, open_source
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import pick_device
from zebra.pretrained.manifest import verify_manifest
from zebra.report.results import Metrics, write_metrics
from zebra.report.run import write_run_report
from zebra.text.tokenizer import Tokenizer
from zebra.text.words import Words
from zebra.train.checkpoint import load_checkpoint, load_newest, save_checkpoint
from zebra.train.environment import environment
from zebra.train.folder import RunFolder
from zebra.train.journal import Journal, open_sinks, read_journal
from zebra.train.loop import Prepare, StepReport, train
from zebra.train.optimizer import adamw
from zebra.train.precision import settle
from zebra.train.stop import stop_on_signals
from zebra.workflows.evaluate import evaluate_set, open_checks

VOCABULARY_SAMPLES = 20_000
"""Samples whose captions a vocabulary is trained on, spread over the data."""

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


class TokenCounter:
    """Turns captions into ids and counts those that were cut."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.truncated = 0

    def __call__(self, captions: tuple[str, ...]) -> Tensor:
        """Return int64 ids [B, L], cut to the context length: a long caption still teaches by its beginning."""
        encoded = self.words.encode(captions, truncate=True)
        self.truncated += encoded.truncated
        return torch.from_numpy(encoded.ids)


@dataclass(slots=True)
class Session:
    """What learns and what is counted: everything a checkpoint holds."""

    bundle: Bundle
    optimizer: torch.optim.Optimizer
    ledger: Ledger
    tokens: TokenCounter
    source: Source
    start: int = 0
    """Steps done before."""

    def save(self, folder: Path, step: int, keep: int) -> None:
        """Write a checkpoint."""
        counters = {
            "source_digest": self.source.digest,
            "ledger": self.ledger.state(),
            "truncated_captions": self.tokens.truncated,
        }
        save_checkpoint(folder, self.bundle.model, self.optimizer, step, counters, keep)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state; model and optimizer are restored already.

        Raises:
            ConfigError: The data is not what it was.
        """
        if state["source_digest"] != self.source.digest:
            raise ConfigError(
                f"the data at {self.source.name} changed since the checkpoint at step {state['step']}: its samples "
                "would come in another order; restore the data, or start again in another --out"
            )
        self.ledger.restore(state["ledger"])
        self.tokens.truncated = state["truncated_captions"]
        self.start = state["step"]


def run(
    config: TrainConfig, *, resume: str = "auto", watch: Watch = lambda _report, _checks: None
) -> TrainResult:
    """Train as `config` says, in the folder `config.out`.

    Args:
        resume: auto continues the folder's run if it is the same; never demands an empty folder; otherwise the
            path of a checkpoint to start from.
        watch: Called after every step with its report and the checks that ran (set → top-1).

    Raises:
        ConfigError: The folder holds another run, or the settings contradict each other.
        DataError: The data cannot be read, is smaller than a batch, or too much of it is bad.
    """
    config = replace(config, precision=settle(config.precision, pick_device("auto")))
    folder = RunFolder(Path(config.out))
    source = open_source(config.data, config.data_options)
    require_batch(source, config.batch_size)
    steps = config.steps or math.ceil((config.epochs or 0) * len(source) / config.batch_size)
    checks = open_checks(config.checks, config.check_samples)
    claim = folder.claim(config, resume)
    if claim == "finished":
        return TrainResult(folder.path, steps, finished=True, already=True)
    session = open_session(config, folder, source, kept=claim == "begun", resume=resume)
    journal = Journal(folder.journal, config.log, open_sinks(folder.path, config.log))
    journal.rewind(session.start)
    folder.environment.write_text(json.dumps(environment(), indent=1) + "\n", encoding="utf-8")

    with stop_on_signals() as stop:

        def on_step(report: StepReport) -> bool:
            session.ledger.add(report.step - 1, report.batch)
            due = report.step % config.check_every == 0 or report.step == steps
            results = {check.name: check(session.bundle) for check in checks} if due else {}
            journal.add(report, results)
            watch(report, results)
            if report.step % config.checkpoint_every == 0 or stop.requested or report.step == steps:
                session.save(folder.checkpoints, report.step, config.keep_checkpoints)
            return not stop.requested

        done = train(
            session.bundle.model,
            session.optimizer,
            batches(
                source,
                image_size=config.model.image_size,
                batch_size=config.batch_size,
                seed=config.seed,
                steps=range(session.start, steps),
                workers=config.workers,
                options=config.data_options,
            ),
            Prepare(pixels=session.bundle.preprocess.normalise, tokens=session.tokens),
            config,
            start=session.start,
            steps=steps,
            on_step=on_step,
        )
    counts = {**session.ledger.summary(), "truncated_captions": session.tokens.truncated}
    folder.data.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    if done < steps:
        return TrainResult(folder.path, done, finished=False)
    metrics = final_scores(session.bundle, config)
    write_metrics(folder.metrics, metrics)
    write_run_report(folder.report, read_journal(folder.journal), counts, metrics)
    # Last, since it marks the run as finished.
    session.bundle.save(folder.model, facts(config, source, steps, metrics))
    return TrainResult(folder.path, steps, finished=True)


def open_session(
    config: TrainConfig, folder: RunFolder, source: Source, *, kept: bool, resume: str
) -> Session:
    """Build model, tokenizer and optimizer, and take them to where the run stands.

    Args:
        kept: The folder holds an earlier part of this run, whose vocabulary and newest checkpoint count.
        resume: auto, never, or the path of a checkpoint.
    """
    context_length = config.model.text.context_length
    if kept:
        tokenizer = Tokenizer.load(folder.tokenizer, context_length)
    else:
        tokenizer = open_tokenizer(config, source)
        tokenizer.save(folder.tokenizer)
    torch.manual_seed(config.seed)
    sized = replace(config.model, text=replace(config.model.text, vocab_size=tokenizer.vocab_size))
    model = CLIP(sized).to(pick_device("auto"))
    bundle = Bundle(model, tokenizer, Preprocess(image_size=config.model.image_size))
    ledger = Ledger(len(source), config.batch_size, config.data_options.max_skip_rate, folder.skipped)
    session = Session(bundle, adamw(model, config.optimizer), ledger, TokenCounter(tokenizer), source)
    if resume in ("auto", "never"):
        state = load_newest(folder.checkpoints, model, session.optimizer)
    elif (Path(resume) / "MANIFEST.json").is_file():
        verify_manifest(Path(resume))
        state = load_checkpoint(Path(resume), model, session.optimizer)
    else:
        raise ConfigError(f"--resume {resume} is neither auto, never nor a checkpoint folder")
    if state:
        session.restore(state)
    return session


def open_tokenizer(config: TrainConfig, source: Source) -> Tokenizer:
    """Read the tokenizer that the config names, or train one on the captions."""
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


def final_scores(bundle: Bundle, config: TrainConfig) -> Metrics:
    """Evaluate the sets of the checks whole."""
    sets = [read_benchmark(Path(path)) for path in config.checks]
    return {benchmark.name: evaluate_set(bundle, benchmark).scores() for benchmark in sets}


def facts(config: TrainConfig, source: Source, steps: int, metrics: Metrics) -> dict[str, str]:
    """Say in the model card what the model learned from, and how well."""
    origin = {
        "training": f"{steps:,} steps of {config.batch_size} pairs, from {len(source):,} pairs found",
        "data digest": source.digest[:16],
        "seed": str(config.seed),
    }
    best = {name: tasks["zero-shot"]["top1"] for name, tasks in metrics.items()}
    scores = {
        f"zero-shot top-1 on {name}": f"{top1.value:.1%} [{top1.low:.1%}, {top1.high:.1%}], n={top1.n}"
        for name, top1 in best.items()
    }
    return origin | scores
