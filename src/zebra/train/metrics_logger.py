"""The journal: one JSON line per logged step, mirrored to TensorBoard or Weights & Biases when asked."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zebra.config.train import LogConfig
from zebra.errors import MissingExtra
from zebra.train.loop import StepReport

Line = dict[str, Any]
Sink = Callable[[Line], None]


class Journal:
    """Averages reports over `config.every` steps and appends each mean as a line to `path` and to every sink."""

    def __init__(self, path: Path, config: LogConfig, sinks: list[Sink]) -> None:
        self.path = path
        self.every = config.every
        self.sinks = sinks
        self._reports: list[StepReport] = []

    def rewind(self, step: int) -> None:
        """Drop lines after `step`, so that a resumed run writes each of them once."""
        if self.path.exists():
            kept = [line for line in read_journal(self.path) if line["step"] <= step]
            partial = self.path.with_name(f".{self.path.name}.partial")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            partial.replace(self.path)  # a crash in between leaves the longer journal, to be rewound again

    def add(self, report: StepReport, checks: Mapping[str, float], *, spike: bool = False) -> None:
        """Take in one step; write a line when it is due, when checks or a spike came with it, or at the end."""
        self._reports.append(report)
        if report.step % self.every and not checks and not spike and report.step < report.steps:
            return
        line = _line(self._reports)
        if checks:
            line["checks"] = dict(checks)
        if spike:
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


def read_journal(path: Path) -> list[Line]:
    """Read every whole line; a last line cut by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def open_sinks(folder: Path, config: LogConfig) -> list[Sink]:
    """Open the loggers the config asks for.

    Raises:
        MissingExtra: The logger's package is not installed.
    """
    sinks: list[Sink] = []
    if config.tensorboard:
        sinks.append(_tensorboard(folder / "tensorboard"))
    if config.wandb is not None:
        sinks.append(_wandb(folder, config.wandb))
    return sinks


def _line(reports: list[StepReport]) -> Line:
    last = reports[-1]
    seconds = sum(report.seconds for report in reports)
    samples = sum(len(report.batch.ids) for report in reports)
    return {
        "step": last.step,
        "samples": last.samples,
        "loss": last.figures.loss,
        "lr": last.lr,
        "logit_scale": last.figures.logit_scale,
        "grad_norm": last.figures.grad_norm,
        "batch_accuracy": last.figures.batch_accuracy,
        "samples_per_second": samples / seconds,
        "data_wait_fraction": sum(report.data_wait_seconds for report in reports) / seconds,
    }


def _scalars(line: Line) -> dict[str, float]:
    flat = {name: value for name, value in line.items() if isinstance(value, int | float)}
    return flat | {f"check/{name}": value for name, value in line.get("checks", {}).items()}


def _tensorboard(folder: Path) -> Sink:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "--log.tensorboard") from error
    writer = SummaryWriter(str(folder))

    def write(line: Line) -> None:
        for name, value in _scalars(line).items():
            writer.add_scalar(name, value, line["step"])
        writer.flush()

    return write


def _wandb(folder: Path, project: str) -> Sink:
    try:
        import wandb
    except ImportError as error:
        raise MissingExtra("wandb", "--log.wandb") from error
    run = wandb.init(project=project, dir=str(folder))

    def write(line: Line) -> None:
        run.log(_scalars(line), step=line["step"])

    return write
