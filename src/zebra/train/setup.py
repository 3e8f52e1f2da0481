"""Set up a training run: model, tokenizer, optimizer and metrics logger."""

import json
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zebra.config.files import write_config
from zebra.config.text_towers import TextConfig
from zebra.config.train import TrainConfig
from zebra.data.bad_samples import NoUsableSamples
from zebra.data.sample_counter import SampleCounter
from zebra.data.sources import Source
from zebra.distributed import ProcessGroup
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.preprocess import build_preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import resolve_device
from zebra.text.bpe import BPETokenizer
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.checkpoint import load_checkpoint
from zebra.train.compilation import compile_blocks
from zebra.train.ema import ModelEMA
from zebra.train.environment import collect_environment
from zebra.train.finetune import FineTuning
from zebra.train.metrics_logger import MetricsLogger, open_log_sinks
from zebra.train.optimizer import build_optimizer
from zebra.train.parallel import parallelize
from zebra.train.run_dir import RunDir
from zebra.train.run_spec import build_run_spec, require_same_on_all_ranks
from zebra.train.similar_batches import SimilarBatching
from zebra.train.state import CountingTokenizer, TrainState
from zebra.train.teacher import Teacher

MAX_VOCAB_SAMPLES = 20_000
"""Largest number of evenly spaced samples whose captions the tokenizer is trained on."""
MACHINE_KEYS = ("python", "processor", "threads", "accelerator")
"""Keys of the environment that may change the last bits of a sum. A change of them only causes a warning on resume."""


def build_train_state(
    config: TrainConfig,
    run_dir: RunDir,
    source: Source,
    rehearsal: Source | None,
    fine_tuning: FineTuning | None,
    checkpoint: Path | None,
    *,
    teacher: Teacher | None = None,
    batching: SimilarBatching | None = None,
    accept_changes: bool,
    group: ProcessGroup,
) -> TrainState:
    """Build model, tokenizer and optimizer, distribute them over the processes, and restore the checkpoint.

    Args:
        rehearsal: Earlier data, of which each batch has some pairs.
        fine_tuning: The initial model; None initializes random weights.
        checkpoint: Checkpoint to resume from, with the tokenizer of its run; None starts a new run.
        teacher: The teacher whose vectors determine the run.
        batching: Similar batches, whose groups determine the run; None for random batches.
        accept_changes: Resume although the run spec has changed.
        group: Processes of the run.
    """
    device = resolve_device(config.device)
    new_tokenizer = None if fine_tuning else load_or_train_tokenizer(config, source, checkpoint)
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    bundle = fine_tuning.prepare_model() if fine_tuning else initialize_bundle(config, new_tokenizer, device)
    model, tokenizer = bundle.model, bundle.require_tokenizer()
    run_spec = build_run_spec(config, source.digest, tokenizer.fingerprint, device)
    run_spec |= {"init_from": fine_tuning.fingerprint} if fine_tuning else {}
    run_spec |= {"teacher": teacher.spec} if teacher else {}
    run_spec |= {"batching": batching.spec} if batching else {}
    run_spec |= {"rehearsal": rehearsal.digest} if rehearsal else {}
    require_same_on_all_ranks(group, config, run_spec)  # before collectives of different shapes can fail
    if config.compile:
        compile_blocks(model)
    if config.activation_checkpointing:
        apply_activation_checkpointing(model)
    forward_fn = parallelize(model, group, config.parallel)

    def count_samples(samples: Source, skipped_path: Path) -> SampleCounter:
        return SampleCounter(
            len(samples), config.data_options.max_skip_rate, skipped_path if group.is_main_process else None
        )

    state = TrainState(
        bundle,
        build_optimizer(model, config.optimizer, config.finetune.layer_decay if config.finetune else 1.0),
        None if config.ema_decay is None else ModelEMA(model, config.ema_decay),
        count_samples(source, run_dir.skipped_samples),
        CountingTokenizer(tokenizer),
        run_spec,
        rehearsal_counter=count_samples(rehearsal, run_dir.skipped_rehearsal) if rehearsal else None,
        group=group,
        forward_fn=forward_fn,
    )
    if checkpoint is not None:
        if not checkpoint.is_dir():
            raise ConfigError(
                f"rank {group.rank} cannot find {checkpoint}, from which rank 0 resumes. --out must be on a file "
                "system that all machines share."
            )
        state.restore(load_checkpoint(checkpoint), str(checkpoint), accept_changes=accept_changes)
    if fine_tuning and not state.step:
        with state.eval_bundle() as initial:
            state.best_score = fine_tuning.mean_score(initial)
    return state


def open_metrics_logger(
    config: TrainConfig, run_dir: RunDir, state: TrainState, *, is_resumed: bool
) -> MetricsLogger | None:
    """Write config, tokenizer and environment, and open the log after the current step; None on other processes."""
    if not state.group.is_main_process:
        return None
    write_config(run_dir.config, config)
    state.bundle.require_tokenizer().save(run_dir.tokenizer)
    write_environment(run_dir, state.accepted_changes, is_resumed=is_resumed)
    logger = MetricsLogger(run_dir.log, config.log, open_log_sinks(run_dir.path, config.log))
    logger.truncate_after(state.step)
    return logger


def write_environment(run_dir: RunDir, accepted_changes: list[str], *, is_resumed: bool) -> None:
    """Write `environment.json` with all accepted changes; warn if the run resumes in another environment."""
    environment = collect_environment()
    before: dict[str, Any] = {}
    if is_resumed and run_dir.environment.is_file():
        before = json.loads(run_dir.environment.read_text(encoding="utf-8"))
        changed = [
            f"{name}: {before.get(name)} → {environment[name]}"
            for name in MACHINE_KEYS
            if before.get(name) != environment[name]
        ]
        if changed:
            warnings.warn(
                f"the run resumes in another environment ({'; '.join(changed)}). It continues with the same samples in "
                "the same order, but the last bits of its numbers may differ.",
                stacklevel=2,
            )
    environment["accepted_changes"] = before.get("accepted_changes", []) + accepted_changes
    run_dir.environment.write_text(json.dumps(environment, indent=1) + "\n", encoding="utf-8")


def initialize_bundle(config: TrainConfig, tokenizer: BPETokenizer | None, device: torch.device) -> Bundle:
    """Create a model with random weights and as many token embeddings as the tokenizer has tokens.

    Raises:
        ConfigError: The text tower is not causal, so it does not suit the tokenizer that zebra trains.
    """
    assert tokenizer is not None
    if not isinstance(config.model.text, TextConfig):
        raise ConfigError(
            f"model.text.kind is {config.model.text.kind}, but the tokenizer that zebra trains suits causal text "
            "towers only. Fine-tune a model with such a tower (--from MODEL), or set the kind to causal."
        )
    model_config = replace(
        config.model,
        text=replace(config.model.text, vocab_size=tokenizer.vocab_size),
        dimensions=config.objective.dimensions or config.model.dimensions,
    )
    return Bundle(CLIP(model_config).to(device), tokenizer, build_preprocess(config.model, config.image_seq_len))


def load_or_train_tokenizer(config: TrainConfig, source: Source, checkpoint: Path | None = None) -> BPETokenizer:
    """Load the tokenizer of the checkpoint's run or of the config; without either, train one on the captions."""
    if checkpoint is not None:
        checkpoint_run = RunDir(checkpoint.absolute().parent.parent)
        return BPETokenizer.load(checkpoint_run.tokenizer, config.model.text.context_length)
    context_length = config.model.text.context_length
    if config.tokenizer is None:
        return BPETokenizer.train(_sample_captions(source), config.model.text.vocab_size, context_length)
    if config.tokenizer.endswith(".json"):
        return BPETokenizer.load(config.tokenizer, context_length)
    return BPETokenizer.from_merges(config.tokenizer, context_length)


def _sample_captions(source: Source) -> list[str]:
    """Read the captions of evenly spaced samples; bad samples are skipped here and counted in training."""
    captions: list[str] = []
    bad_samples: list[BadSample] = []
    for index in range(0, len(source), max(1, len(source) // MAX_VOCAB_SAMPLES)):
        try:
            captions.extend(source.read(index).captions)
        except BadSample as bad:
            bad_samples.append(bad)
    if not captions and bad_samples:
        raise NoUsableSamples(source.name, len(source), bad_samples)
    if not captions:
        raise DataError(f"{source.name} has labels but no captions to train on. Add captions, or use zebra evaluate")
    return captions
