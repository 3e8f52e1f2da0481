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
from zebra.data.sample_counter import Ledger
from zebra.data.sources import Source
from zebra.distributed import World
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import pick_device
from zebra.text.bpe import Tokenizer
from zebra.train import finetune
from zebra.train.activation_checkpointing import compile_blocks, forget_activations
from zebra.train.checkpoint import read_checkpoint
from zebra.train.ema import WeightAverage
from zebra.train.environment import environment
from zebra.train.metrics_logger import Journal, open_sinks
from zebra.train.optimizer import adamw
from zebra.train.parallel import Towers, spread
from zebra.train.run_dir import RunFolder
from zebra.train.run_spec import identity, require_alike
from zebra.train.state import Session, TokenCounter

VOCABULARY_SAMPLES = 20_000
"""Samples whose captions a vocabulary is trained on, spread over the data."""
MACHINE = ("python", "processor", "threads", "accelerator")
"""Parts of the environment that may change the last bits of a sum, but need not stop a run that goes on elsewhere."""


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
    mine = identity(config, source.digest, tokenizer.fingerprint, device)
    mine |= {"start": start.fingerprint} if start else {}
    require_alike(world, config, mine)  # before anything is exchanged that would not fit
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
        mine,
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
