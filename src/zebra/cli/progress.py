"""Live progress on standard error: counts and step reports in; bars, rates and the time left out."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from zebra.train.loop import StepReport


class CountingDisplay:
    """A bar that appears with the first count; a context manager."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            refresh_per_second=4,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bar as it is, so that other lines can follow it."""
        if self.progress.live.is_started:  # a second stop would print an empty line
            self.progress.stop()

    def update(self, done: int, total: int, figures: str = "") -> None:
        """Show that `done` of `total` are done."""
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task(self.title, total=total, figures=figures)
        self.progress.update(self.task, total=total, completed=done, figures=figures)


class TrainingDisplay:
    """A bar with loss, pairs/s, time left and the newest checks; `update` is the `watch` of a training run."""

    def __init__(self) -> None:
        self.bar = CountingDisplay("training")
        self.rate: float | None = None
        self.loss = 0.0
        self.checks = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bar as it is, so that other lines can follow it."""
        self.bar.stop()

    def update(self, report: "StepReport", checks: Mapping[str, float]) -> None:
        """Show one more step; rate and loss are smoothed over about 20 steps."""
        rate = len(report.batch.ids) / report.seconds
        if self.rate is None:
            self.rate, self.loss = rate, report.figures.loss
        self.rate += 0.05 * (rate - self.rate)
        self.loss += 0.05 * (report.figures.loss - self.loss)
        if checks:
            self.checks = " · " + " · ".join(f"{name} {value:.1%}" for name, value in checks.items())
        self.bar.update(
            report.step, report.steps, f"loss {self.loss:.3f} · {self.rate:.0f} pairs/s{self.checks}"
        )
