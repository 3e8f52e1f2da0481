"""Progress bars on standard error."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from zebra.train.loop import StepReport


class ProgressBar:
    """Progress bar that appears with the first update; a context manager."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[stats]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            refresh_per_second=4,
        )
        self.task_id: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop updating, so that other lines can follow the bar."""
        if self.progress.live.is_started:  # a second stop would print an empty line
            self.progress.stop()

    def update(self, done: int, total: int, stats: str = "") -> None:
        """Show `done` of `total` and the text `stats`."""
        if self.task_id is None:
            self.progress.start()
            self.task_id = self.progress.add_task(self.title, total=total, stats=stats)
        self.progress.update(self.task_id, total=total, completed=done, stats=stats)


class TrainingProgress:
    """Progress bar with loss, pairs/s and the latest evaluation; `update` is the callback of a training run."""

    def __init__(self) -> None:
        self.bar = ProgressBar("training")
        self.pairs_per_second: float | None = None
        self.loss = 0.0
        self.eval_metrics = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop updating, so that other lines can follow the bar."""
        self.bar.stop()

    def update(self, report: "StepReport", eval_metrics: Mapping[str, float]) -> None:
        """Show one more step; loss and rate are smoothed over about 20 steps."""
        rate = len(report.batch.ids) / report.seconds
        if self.pairs_per_second is None:
            self.pairs_per_second, self.loss = rate, report.metrics.loss
        self.pairs_per_second += 0.05 * (rate - self.pairs_per_second)
        self.loss += 0.05 * (report.metrics.loss - self.loss)
        if eval_metrics:
            self.eval_metrics = " · " + " · ".join(f"{name} {value:.1%}" for name, value in eval_metrics.items())
        self.bar.update(
            report.step,
            report.total_steps,
            f"loss {self.loss:.3f} · {self.pairs_per_second:.0f} pairs/s{self.eval_metrics}",
        )
