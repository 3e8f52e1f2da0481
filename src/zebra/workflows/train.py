"""Train a CLIP: `run(config)` writes a run directory with weights, log and scores."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from zebra.config.train import TrainConfig
from zebra.data.bad_samples import NoUsableSamples, write_bad_samples
from zebra.data.batches import iter_batches
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.rehearsal import add_rehearsal
from zebra.data.sampling import epoch_permutation
from zebra.data.sources import Source
from zebra.distributed import ProcessGroup, init_distributed
from zebra.errors import ConfigError
from zebra.evaluators.comparison import BeforeAfter
from zebra.evaluators.held_out import HeldOutResult, evaluate_held_out
from zebra.evaluators.results_io import EvalMetrics, write_metrics
from zebra.evaluators.validation import HELD_OUT
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.images.augment import patch_crop
from zebra.notebook import render_html_table
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.device import use_device
from zebra.pretrained.shared_cores import share_cores
from zebra.report.fine_tuning import before_after_section
from zebra.report.training import write_training_report
from zebra.train.checkpoint_writer import CheckpointWriter
from zebra.train.hooks import Callback, TrainingHooks
from zebra.train.loop import BatchPreprocessor, train_loop
from zebra.train.metrics_logger import read_log
from zebra.train.objective import build_targets_fn
from zebra.train.patch_dropout import build_patch_dropout
from zebra.train.precision import resolve_precision
from zebra.train.preservation import Anchors
from zebra.train.resumption import count_total_steps, extend_finished_run, find_checkpoint
from zebra.train.run_dir import RunDir
from zebra.train.setup import build_train_state, open_metrics_logger
from zebra.train.similar_batches import SimilarBatching, open_similar_batching
from zebra.train.state import TrainState
from zebra.train.stop import stop_on_signals
from zebra.train.teacher import Teacher, open_teacher
from zebra.train.train_data import TrainData, open_data
from zebra.train.watchdog import RankWatchdog


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    out: Path
    steps: int
    """Steps done in all."""
    is_finished: bool
    """False if the run was interrupted; it then has a checkpoint to resume from."""
    is_up_to_date: bool = False
    """The run directory already held this run, finished; nothing was done."""
    before_after: BeforeAfter | None = None
    """What fine-tuning changed; None for training from random weights."""
    held_out: HeldOutResult | None = None
    """Retrieval on held-out pairs and the templates chosen on them; None without held-out pairs."""

    def _repr_html_(self) -> str:
        """Return the outcome and the scores as a table, for notebooks."""
        rows = {"steps": f"{self.steps:,}" if self.is_finished else f"{self.steps:,}, interrupted"}
        if self.is_finished:
            rows |= {"model": str(self.out / "model"), "report": str(self.out / "report.html")}
        for name, score in self.held_out.scores.items() if self.held_out else ():
            rows[name.replace("_", " ")] = f"{score.value:.1%} [{score.low:.1%}, {score.high:.1%}]"
        if self.before_after:
            rows["before → after"] = "; ".join(map(str, self.before_after.deltas))
        return render_html_table(rows, "zebra train")


def run(
    config: TrainConfig,
    *,
    resume: str = "auto",
    accept_changes: bool = False,
    pause_at: int | None = None,
    callback: Callback = lambda _report, _scores: None,
    data_callback: Callable[[Source], None] = lambda _source: None,
) -> TrainResult:
    """Train as `config` says, in the directory `config.out`.

    Args:
        resume: auto resumes the run in `config.out` if it is the same, and extends it if it is finished and only its
            length differs; never demands an empty directory; otherwise the path of a checkpoint.
        accept_changes: Resume although settings, data or versions differ from those of the checkpoint.
        pause_at: Step after which the run stops as if interrupted, with a checkpoint to resume from.
        callback: Called after every step with its report and the validation scores of that step (name → score).
        data_callback: Called once, before the first step, with the training samples.

    Raises:
        ConfigError: The directory holds another run, or the settings contradict each other.
        NoUsableSamples: No sample that was tried is usable; `skipped.jsonl` lists them.
        DataError: The data cannot be read, is smaller than a batch, or too much of it is bad.
        RankError: A process that torchrun started does not respond or has died.
        WeightsError: There are checkpoints, and all of them are corrupt.
        CheckpointError: A checkpoint could not be written; the previous one is untouched.
    """
    run_dir = RunDir(config.out)
    with (
        share_cores(),
        init_distributed(config.rank_timeout) as group,
        _use_train_device(config.device, group) as device,
        RankWatchdog(group, config.rank_timeout).guard() as watchdog,
        _list_unusable_samples(run_dir, group),
    ):
        config = replace(config, precision=resolve_precision(config.precision, device))
        data = open_data(config, group)
        data_callback(data.source)
        status = group.broadcast_from_main(
            lambda: run_dir.run_status(config, data.digest, resume, accept_changes=accept_changes)
        )
        if status == "finished":
            steps = count_total_steps(config, data.source, 0, 0)
            return TrainResult(run_dir.path, steps, is_finished=True, is_up_to_date=True)
        with run_dir.lock(group):
            anchors = data.fine_tuning.build_anchors(config.batch_size, config.seed) if data.fine_tuning else None
            checkpoint = group.broadcast_from_main(lambda: find_checkpoint(run_dir, resume, status))
            watchdog.heartbeat("the vectors of the teacher")
            teacher = open_teacher(
                config.objective,
                config.data,
                data.source,
                config.model.embed_dim,
                run_dir.teacher,
                group,
                is_resumed=checkpoint is not None,
            )
            watchdog.heartbeat("the groups of similar images")
            batching = open_similar_batching(
                config, data.source, run_dir.similar_samples, group, is_resumed=checkpoint is not None
            )
            state = build_train_state(
                config,
                run_dir,
                data.source,
                data.rehearsal.source if data.rehearsal else None,
                data.fine_tuning,
                checkpoint,
                teacher=teacher,
                batching=batching,
                accept_changes=accept_changes,
                group=group,
            )
            total_steps = count_total_steps(config, data.source, state.step, state.samples_seen)
            if status == "extendable":
                extend_finished_run(config, run_dir, state, total_steps)
            logger = open_metrics_logger(config, run_dir, state, is_resumed=checkpoint is not None)
            with stop_on_signals() as stop_request:
                writer = CheckpointWriter(run_dir.checkpoints, config.keep_checkpoints, group)
                hooks = TrainingHooks(
                    state, config, logger, data.validators, writer, stop_request, callback, watchdog, pause_at
                )
                fit(config, state, data, hooks, total_steps, teacher, anchors, batching)
                return finish(config, run_dir, state, data, hooks)


@contextmanager
def _use_train_device(name: str, group: ProcessGroup) -> Iterator[torch.device]:
    """Make the device of the run the current one.

    Raises:
        ConfigError: It is not available, or it is one GPU for several processes.
    """
    with use_device(name) as device:
        if device.index is not None and group.world_size > 1:
            raise ConfigError(
                f"device is {name}, but each of the {group.world_size} processes uses a GPU of its own. Use --device "
                "cuda, or leave it out."
            )
        yield device


@contextmanager
def _list_unusable_samples(run_dir: RunDir, group: ProcessGroup) -> Iterator[None]:
    """Write the bad samples of NoUsableSamples to `skipped.jsonl`, unless the directory holds an earlier run."""
    try:
        yield
    except NoUsableSamples as error:
        has_run = run_dir.model.exists() or any(run_dir.checkpoints.glob("*"))
        if group.is_main_process and not has_run:
            write_bad_samples(run_dir.skipped_samples, error.bad_samples)
        raise


def fit(
    config: TrainConfig,
    state: TrainState,
    data: TrainData,
    hooks: TrainingHooks,
    total_steps: int,
    teacher: Teacher | None = None,
    anchors: Anchors | None = None,
    batching: SimilarBatching | None = None,
) -> None:
    """Train until `total_steps` or until the hooks stop the run, then wait for the last checkpoint."""
    group, preprocess = state.group, state.bundle.preprocess
    open_batches = partial(
        iter_batches,
        image_size=config.model.image_size,
        seed=config.seed,
        num_steps=total_steps - state.step,
        num_workers=config.workers,
        config=config.data_options,
        rank=group.rank,
        world_size=group.world_size,
        timeout_seconds=config.worker_timeout,
        patch_crop=patch_crop(preprocess),
    )
    batches = open_batches(
        data.source,
        batch_size=config.num_new,
        start_sample=state.samples_seen,
        epoch_order=batching.order if batching else epoch_permutation,
    )
    if data.rehearsal:
        batches = add_rehearsal(
            batches,
            open_batches(data.rehearsal.source, batch_size=config.num_rehearsal, start_sample=state.rehearsal_seen),
        )
    with hooks.writer:
        train_loop(
            state.bundle.model,
            state.optimizer,
            batches,
            BatchPreprocessor(
                normalize=preprocess.normalize if preprocess.patch_size is None else preprocess.normalize_patches,
                tokenize=state.tokenizer,
                sample_patches=build_patch_dropout(config, group, state.bundle.device),
                look_up_targets=build_targets_fn(config.objective, state.bundle.device, teacher),
                sample_anchors=anchors.sample if anchors else lambda _step: None,
            ),
            config,
            start_step=state.step,
            samples_seen=state.samples_seen,
            total_steps=total_steps,
            callback=hooks,
            group=group,
            forward_fn=state.forward_fn,
        )


def finish(
    config: TrainConfig, run_dir: RunDir, state: TrainState, data: TrainData, hooks: TrainingHooks
) -> TrainResult:
    """Select the weights, evaluate them and, unless interrupted, write scores, report and model.

    All processes must call it; the main process writes.
    """
    group = state.group
    counts = {
        "digest": data.digest,
        **state.sample_counter.summary(),
        "held_out": data.held_out.sample_counts() if data.held_out else {"found": 0, "skipped": {}},
        "ignored": [asdict(entry) for entry in data.source.ignored],
        "truncated_captions": state.num_truncated_captions,
    }
    if data.rehearsal and state.rehearsal_counter:
        counts["rehearsal"] = {
            **state.rehearsal_counter.summary(),
            "found": data.rehearsal.num_found,
            "also_in_data": data.rehearsal.num_excluded,
        }
    if group.is_main_process:
        run_dir.sample_counts.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    before_after = None
    if data.fine_tuning and not hooks.interrupted:
        hooks.watchdog.heartbeat("the comparison with the initial model")
        before_after = data.fine_tuning.finalize(state, run_dir.checkpoints, config.eval_sets)
    with state.eval_bundle() as bundle:
        metrics = evaluate_final_model(bundle, config, hooks, group)
        if hooks.interrupted:
            return TrainResult(run_dir.path, state.step, is_finished=False)
        held_out = evaluate_held_out(bundle, data.held_out) if data.held_out else None
        hooks.watchdog.stop()
        if group.is_main_process:
            if held_out:
                by_size = {f"retrieval-{size}": scores for size, scores in held_out.scores_by_size.items()}
                metrics = merge_metrics(metrics, {HELD_OUT: {"retrieval": held_out.scores} | by_size})
                bundle.templates = held_out.templates.templates if held_out.templates else bundle.templates
            if before_after:
                metrics = merge_metrics(metrics, before_after.metrics())
            write_metrics(run_dir.metrics, metrics)
            sections = [before_after_section(before_after)] if before_after else []
            write_training_report(run_dir.report, read_log(run_dir.log), counts, metrics, held_out, sections)
            entries = model_card_entries(config, data.source, state.step, metrics)
            entries |= before_after.model_card_entries() if before_after else {}
            final = data.fine_tuning.merge_lora(bundle, run_dir.adapter) if data.fine_tuning else bundle
            # Saved last: the model's manifest marks the run as finished.
            final.save(run_dir.model, entries)
    return TrainResult(run_dir.path, state.step, is_finished=True, before_after=before_after, held_out=held_out)


def evaluate_final_model(bundle: Bundle, config: TrainConfig, hooks: TrainingHooks, group: ProcessGroup) -> EvalMetrics:
    """Evaluate on all samples of each of `config.eval_sets`, until the run is interrupted."""
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
    """Merge the tasks of each dataset."""
    return {name: {**metrics.get(name, {}), **others.get(name, {})} for name in (*metrics, *others)}


def model_card_entries(config: TrainConfig, source: Source, steps: int, metrics: EvalMetrics) -> dict[str, str]:
    """Return the model card's entries on training data and zero-shot accuracy."""
    training = {
        "training": f"{steps:,} steps of {config.batch_size} pairs, from {len(source):,} pairs found",
        "data digest": source.digest[:16],
        "seed": str(config.seed),
    }
    top1 = {name: tasks["zero-shot"]["top1"] for name, tasks in metrics.items() if "zero-shot" in tasks}
    scores = {
        f"zero-shot top-1 on {name}": f"{score.value:.1%} [{score.low:.1%}, {score.high:.1%}], n={score.n}"
        for name, score in top1.items()
    }
    if "retrieval" in metrics.get(HELD_OUT, {}):
        score = metrics[HELD_OUT]["retrieval"]["image_to_text_recall@1"]
        scores["held-out images whose caption ranks first"] = (
            f"{score.value:.1%} [{score.low:.1%}, {score.high:.1%}], n={score.n}"
        )
    return training | scores
