"""The journal: one JSON line per logged step, mirrored to TensorBoard or Weights & Biases when asked."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zebra.config.train import LogConfig
from zebra.errors import MissingExtra
from zebra.train.loop import StepReport

LogLine = dict[str, Any]
LogSink = Callable[[LogLine], None]


class MetricsLogger:
    """Averages reports over `config.every` steps and appends each mean as a line to `path` and to every sink."""

    def __init__(self, path: Path, config: LogConfig, sinks: list[LogSink]) -> None:
        self.path = path
        self.log_every = config.every
        self.sinks = sinks
        self._reports: list[StepReport] = []

    def truncate_after(self, step: int) -> None:
        """Drop lines after `step`, so that a resumed run writes each of them once."""
        if self.path.exists():
            kept = [line for line in read_log(self.path) if line["step"] <= step]
            partial = self.path.with_name(f".{self.path.name}.partial")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            partial.replace(self.path)  # a crash in between leaves the longer journal, to be rewound again

    def log_step(
        self, report: StepReport, eval_scores: Mapping[str, float], *, is_spike: bool = False
    ) -> None:
        """Take in one step; write a line when it is due, when checks or a spike came with it, or at the end."""
        self._reports.append(report)
        if (
            report.step % self.log_every
            and not eval_scores
            and not is_spike
            and report.step < report.total_steps
        ):
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
        """Bring what is written to the disk: a checkpoint must not survive a power cut that its journal does not."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def read_log(path: Path) -> list[LogLine]:
    """Read every whole line; a last line cut by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def open_log_sinks(out_dir: Path, config: LogConfig) -> list[LogSink]:
    """Open the loggers the config asks for.

    Raises:
        MissingExtra: The logger's package is not installed.
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
    samples = sum(len(report.batch.ids) for report in reports)
    return {
        "step": last.step,
        "samples": last.samples_seen,
        "loss": last.metrics.loss,
        "lr": last.lr,
        "logit_scale": last.metrics.logit_scale,
        "grad_norm": last.metrics.grad_norm,
        "batch_accuracy": last.metrics.batch_accuracy,
        "samples_per_second": samples / seconds,
        "data_wait_fraction": sum(report.data_wait_seconds for report in reports) / seconds,
    }


def _scalars(line: LogLine) -> dict[str, float]:
    flat = {name: value for name, value in line.items() if isinstance(value, int | float)}
    return flat | {f"eval/{name}": value for name, value in line.get("eval", {}).items()}


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
