"""Training log: JSON lines, and optionally TensorBoard or Weights & Biases."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zebra.atomic_io import atomic_write, fsync_path
from zebra.config.train import LogConfig
from zebra.errors import MissingExtra
from zebra.train.loop import StepReport

LogLine = dict[str, Any]
LogSink = Callable[[LogLine], None]


class MetricsLogger:
    """Appends a line every `config.every` steps to `path` and to every sink; its rates are means over these steps."""

    def __init__(self, path: Path, config: LogConfig, sinks: list[LogSink]) -> None:
        self.path = path
        self.log_every = config.every
        self.sinks = sinks
        self._reports: list[StepReport] = []

    def truncate_after(self, step: int) -> None:
        """Remove the lines after `step`, because a resumed run writes them again."""
        if self.path.exists():
            lines = [line for line in read_log(self.path) if line["step"] <= step]
            with atomic_write(self.path) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def log_step(self, report: StepReport, eval_scores: Mapping[str, float], *, is_spike: bool = False) -> None:
        """Add a step; write a line if one is due, at validation scores, at a loss spike and at the last step."""
        self._reports.append(report)
        if report.step % self.log_every and not eval_scores and not is_spike and report.step < report.total_steps:
            return
        line = _average_reports(self._reports)
        if eval_scores:
            line["eval"] = dict(eval_scores)
        if is_spike:
            line["spike"] = True
        self._reports = []
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for sink in self.sinks:
            sink(line)

    def flush(self) -> None:
        """Flush the log to disk: after a power failure, it must not end before the latest checkpoint."""
        if self.path.exists():
            fsync_path(self.path)


def read_log(path: Path) -> list[LogLine]:
    """Read all complete lines; leave out a last line that a crash has cut."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def open_log_sinks(out_dir: Path, config: LogConfig) -> list[LogSink]:
    """Open TensorBoard and Weights & Biases as configured.

    Raises:
        MissingExtra: The package of a logger is not installed.
    """
    sinks: list[LogSink] = []
    if config.tensorboard:
        sinks.append(_open_tensorboard(out_dir / "tensorboard"))
    if config.wandb is not None:
        sinks.append(_open_wandb(out_dir, config.wandb))
    return sinks


def _average_reports(reports: list[StepReport]) -> LogLine:
    last = reports[-1]
    seconds = sum(report.seconds for report in reports)
    num_samples = sum(report.num_pairs for report in reports)
    terms = {"terms": dict(last.metrics.terms)} if len(last.metrics.terms) > 1 else {}
    counts = [report.metrics.hard_negatives for report in reports if report.metrics.hard_negatives is not None]
    used, dropped = sum(each[0] for each in counts), sum(each[1] for each in counts)
    negatives = {"hard_negatives": {"used": used, "equal_to_a_caption": dropped}} if counts else {}
    return {
        "step": last.step,
        "samples": last.samples_seen,
        "loss": last.metrics.loss,
        **terms,
        **negatives,
        "lr": last.lr,
        "logit_scale": last.metrics.logit_scale,
        "grad_norm": last.metrics.grad_norm,
        "batch_accuracy": last.metrics.batch_accuracy,
        "samples_per_second": num_samples / seconds,
        "data_wait_fraction": sum(report.data_wait_seconds for report in reports) / seconds,
    }


def _scalars(line: LogLine) -> dict[str, float]:
    scalars = {name: value for name, value in line.items() if isinstance(value, int | float)}
    groups = (("terms", "loss"), ("eval", "eval"))
    return scalars | {f"{prefix}/{name}": value for key, prefix in groups for name, value in line.get(key, {}).items()}


def _open_tensorboard(log_dir: Path) -> LogSink:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "--log.tensorboard") from error
    writer = SummaryWriter(str(log_dir))

    def write(line: LogLine) -> None:
        for name, value in _scalars(line).items():
            writer.add_scalar(name, value, line["step"])
        writer.flush()

    return write


def _open_wandb(out_dir: Path, project: str) -> LogSink:
    try:
        import wandb
    except ImportError as error:
        raise MissingExtra("wandb", "--log.wandb") from error
    run = wandb.init(project=project, dir=str(out_dir))

    def write(line: LogLine) -> None:
        run.log(_scalars(line), step=line["step"])

    return write
