"""What a run begins with: a config and a source in; model, tokenizer, optimizer and journal out, where they stand."""

import json
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zebra.config.train import TrainConfig
from zebra.data.sample_counter import SampleCounter
from zebra.data.sources import Source
from zebra.distributed import ProcessGroup
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import resolve_device
from zebra.text.bpe import BPETokenizer
from zebra.train import finetune
from zebra.train.activation_checkpointing import apply_activation_checkpointing, compile_blocks
from zebra.train.checkpoint import load_checkpoint
from zebra.train.ema import ModelEMA
from zebra.train.environment import collect_environment
from zebra.train.metrics_logger import MetricsLogger, open_log_sinks
from zebra.train.optimizer import build_optimizer
from zebra.train.parallel import ForwardFn, parallelize
from zebra.train.run_dir import RunDir
from zebra.train.run_spec import build_run_spec, require_same_on_all_ranks
from zebra.train.state import CountingTokenizer, TrainState

MAX_VOCAB_SAMPLES = 20_000
"""Samples whose captions a vocabulary is trained on, spread over the data."""
MACHINE_KEYS = ("python", "processor", "threads", "accelerator")
"""Parts of the environment that may change the last bits of a sum, but need not stop a run that goes on elsewhere."""


def build_train_state(
    config: TrainConfig,
    run_dir: RunDir,
    source: Source,
    fine_tuning: finetune.FineTuning | None,
    checkpoint: Path | None,
    *,
    accept_changes: bool,
    group: ProcessGroup,
) -> tuple[TrainState, ForwardFn]:
    """Build model, tokenizer and optimizer, spread them over the processes, and take them to where the run stands.

    Args:
        fine_tuning: The trained model to begin with, if it is not to be a new one.
        checkpoint: Where to go on from. The vocabulary is that of its run.
        accept_changes: Go on although not everything is what it was there.
        group: The processes of the run.

    Returns:
        The run, and what to call in its steps in place of the model.
    """
    device = resolve_device("auto")
    words = None if fine_tuning else load_or_train_tokenizer(config, source, checkpoint)
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    bundle = fine_tuning.prepare_model() if fine_tuning else initialize_bundle(config, words, device)
    model, tokenizer = bundle.model, bundle.require_tokenizer()
    mine = build_run_spec(config, source.digest, tokenizer.fingerprint, device)
    mine |= {"init_from": fine_tuning.fingerprint} if fine_tuning else {}
    require_same_on_all_ranks(group, config, mine)  # before anything is exchanged that would not fit
    if config.compile:
        compile_blocks(model)
    if config.activation_checkpointing:
        apply_activation_checkpointing(model)
    towers = parallelize(model, group, config.parallel)
    session = TrainState(
        bundle,
        build_optimizer(model, config.optimizer, config.finetune.layer_decay if config.finetune else 1.0),
        None if config.ema_decay is None else ModelEMA(model, config.ema_decay),
        SampleCounter(
            len(source),
            config.data_options.max_skip_rate,
            run_dir.skipped_samples if group.is_main_process else None,
        ),
        CountingTokenizer(tokenizer),
        mine,
        group=group,
    )
    if checkpoint is not None:
        if not checkpoint.is_dir():
            raise ConfigError(
                f"rank 0 goes on from {checkpoint}, which rank {group.rank} does not see; --out must be one folder "
                "that all machines share"
            )
        session.restore(load_checkpoint(checkpoint), str(checkpoint), accept_changes=accept_changes)
    return session, towers


def open_metrics_logger(
    config: TrainConfig, run_dir: RunDir, state: TrainState, *, is_resumed: bool
) -> MetricsLogger:
    """Write down what the run is about to do, and open its journal where it goes on."""
    run_dir.save_config(config)
    state.bundle.require_tokenizer().save(run_dir.tokenizer)
    write_environment(run_dir, state.accepted_changes, is_resumed=is_resumed)
    journal = MetricsLogger(run_dir.log, config.log, open_log_sinks(run_dir.path, config.log))
    journal.truncate_after(state.step)
    return journal


def write_environment(run_dir: RunDir, accepted_changes: list[str], *, is_resumed: bool) -> None:
    """Write `environment.json` with the changes accepted so far, and warn if the run goes on where others began it."""
    now = collect_environment()
    before: dict[str, Any] = {}
    if is_resumed and run_dir.environment.is_file():
        before = json.loads(run_dir.environment.read_text(encoding="utf-8"))
        moved = [
            f"{name}: {before.get(name)} → {now[name]}"
            for name in MACHINE_KEYS
            if before.get(name) != now[name]
        ]
        if moved:
            warnings.warn(
                f"this is not where the run began ({'; '.join(moved)}): it goes on with the same samples in the same "
                "order, but the last bits of its numbers may differ",
                stacklevel=2,
            )
    now["accepted_changes"] = before.get("accepted_changes", []) + accepted_changes
    run_dir.environment.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def initialize_bundle(config: TrainConfig, tokenizer: BPETokenizer | None, device: torch.device) -> Bundle:
    """Make a model of random weights, with as many tokens as the vocabulary has."""
    assert tokenizer is not None
    sized = replace(config.model, text=replace(config.model.text, vocab_size=tokenizer.vocab_size))
    return Bundle(CLIP(sized).to(device), tokenizer, Preprocess(image_size=config.model.image_size))


def load_or_train_tokenizer(
    config: TrainConfig, source: Source, checkpoint: Path | None = None
) -> BPETokenizer:
    """Read the tokenizer of the checkpoint's run, or the one that the config names, or train one on the captions."""
    if checkpoint is not None:
        its_run = RunDir(checkpoint.absolute().parent.parent)
        return BPETokenizer.load(its_run.tokenizer, config.model.text.context_length)
    context_length = config.model.text.context_length
    if config.tokenizer is None:
        return BPETokenizer.train(_sample_captions(source), config.model.text.vocab_size, context_length)
    if config.tokenizer.endswith(".json"):
        return BPETokenizer.load(config.tokenizer, context_length)
    return BPETokenizer.from_merges(config.tokenizer, context_length)


def _sample_captions(source: Source) -> list[str]:
    """Read the captions of up to VOCABULARY_SAMPLES samples, evenly spread; bad ones are counted later."""
    captions: list[str] = []
    for index in range(0, len(source), max(1, len(source) // MAX_VOCAB_SAMPLES)):
        try:
            captions.extend(source.read(index).captions)
        except BadSample:
            continue
    if not captions:
        raise DataError(f"{source.name}: not one usable caption to learn a vocabulary from")
    return captions
