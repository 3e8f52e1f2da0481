"""Progress of long tasks: a bar in a terminal or notebook, else plain lines."""

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from zebra.embed.pipeline import Progress as EmbedProgressReport
    from zebra.train.loop import StepReport

LINE_INTERVAL_SECONDS = 30.0
"""Time between two lines where standard error is no terminal."""
NOTEBOOK_INTERVAL_SECONDS = 0.25
"""Time between two updates of a bar in a notebook."""

Bar = TypeVar("Bar", bound="ProgressBar")


class _View(Protocol):
    """A display of progress."""

    def update(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total`."""

    def pause(self) -> None:
        """Make room for other lines until the next update."""

    def stop(self) -> None:
        """Show the last state for good."""


class ProgressBar:
    """Progress display that appears with the first update; a context manager."""

    def __init__(
        self, title: str, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create a display.

        Args:
            title: What is done, such as "training".
            console: Default: standard error.
            clock: Returns the time in seconds.
        """
        self.title = title
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._view: _View | None = None
        self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def pause(self) -> None:
        """Take the bar off the terminal until the next update, so that other lines can be printed."""
        if self._view is not None and not self._is_stopped:
            self._view.pause()

    def stop(self) -> None:
        """Stop updating, so that other lines can follow."""
        if self._view is not None and not self._is_stopped:
            self._view.stop()
        self._is_stopped = True

    def update(self, done: int, total: int, text: str = "") -> None:
        """Show `done` of `total` and a text; nothing after `stop`."""
        if self._is_stopped:
            return
        if self._view is None:
            self._view = _open_view(self.title, self._console, self._clock)
        self._view.update(done, total, text)


def _open_view(title: str, console: Console, clock: Callable[[], float]) -> _View:
    if console.is_jupyter:
        return _NotebookView(title, clock)
    if console.is_terminal and not console.is_dumb_terminal:
        return _TerminalView(title, console)
    return _LineView(title, console, clock)


class _TerminalView:
    """A bar that is drawn in place."""

    def __init__(self, title: str, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),  # output to a file or pipe must not go to standard error
        )
        self._task_id = self._progress.add_task(title, total=None, text="")

    def update(self, done: int, total: int, text: str) -> None:
        self._progress.update(self._task_id, total=total, completed=done, text=text)
        if not self._progress.live.is_started:
            self._progress.live.transient = False
            self._progress.start()

    def pause(self) -> None:
        if self._progress.live.is_started:
            self._progress.live.transient = True
            self._progress.stop()

    def stop(self) -> None:
        if self._progress.live.is_started:  # a second stop would print an empty line
            self._progress.stop()


class _TimedState:
    """The last state of a task, and the time that the rest will take."""

    def __init__(self, title: str, clock: Callable[[], float]) -> None:
        self.title, self._clock = title, clock
        self.done, self.total, self.text = 0, 0, ""
        self._start_time = self._phase_time = clock()
        self._num_done_before: int | None = None

    def update(self, done: int, total: int, text: str) -> None:
        """Record a state; another total begins another phase, whose speed says nothing about the last one."""
        if self._num_done_before is None or total != self.total or done < self.done:
            self._phase_time, self._num_done_before = self._clock(), done
        self.done, self.total, self.text = done, total, text

    def format(self) -> str:
        """Return a line such as "training 420/1500 · loss 1.32 · 4 min left"."""
        num_new = self.done - (self._num_done_before or 0)
        seconds = self._clock() - self._phase_time
        left = ""
        if num_new > 0 and self.done < self.total:
            left = f"{_format_seconds(seconds * (self.total - self.done) / num_new)} left"
        return self._join(left)

    def format_end(self) -> str:
        """Return the last line, with the duration instead of the remaining time."""
        verb = "took" if self.done >= self.total else "stopped after"
        return self._join(f"{verb} {_format_seconds(self._clock() - self._start_time)}")

    def _join(self, time_text: str) -> str:
        return " · ".join(filter(None, [f"{self.title} {self.done}/{self.total}".strip(), self.text, time_text]))


class _LineView:
    """Plain lines for log files: at the start, every 30 seconds and at the end."""

    def __init__(self, title: str, console: Console, clock: Callable[[], float]) -> None:
        self._state, self._console, self._clock = _TimedState(title, clock), console, clock
        self._print_time: float | None = None

    def update(self, done: int, total: int, text: str) -> None:
        self._state.update(done, total, text)
        if self._print_time is None or self._clock() - self._print_time >= LINE_INTERVAL_SECONDS:
            self._print_time = self._clock()
            self._print(self._state.format())

    def pause(self) -> None:
        """Do nothing: lines do not disturb each other."""

    def stop(self) -> None:
        self._print(self._state.format_end())

    def _print(self, line: str) -> None:
        with suppress(OSError):  # a full disk or a reader that has exited must not end the task
            # Not wrapped at 80 columns, and written at once: the log is read while the task runs.
            print(line, file=self._console.file, flush=True)


class _NotebookView:
    """A bar below the cell, drawn by the browser without JavaScript."""

    def __init__(self, title: str, clock: Callable[[], float]) -> None:
        self._state, self._clock = _TimedState(title, clock), clock
        self._handle: Any = None
        self._draw_time = 0.0

    def update(self, done: int, total: int, text: str) -> None:
        self._state.update(done, total, text)
        if self._handle is None or self._clock() - self._draw_time >= NOTEBOOK_INTERVAL_SECONDS:
            self._draw(self._state.format())

    def pause(self) -> None:
        """Do nothing: the bar has its own place in the output."""

    def stop(self) -> None:
        self._draw(self._state.format_end())

    def _draw(self, line: str) -> None:
        display = importlib.import_module("IPython.display").display  # always there in a notebook
        self._draw_time = self._clock()
        bar = _NotebookBar(line, self._state.done, self._state.total)
        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)


class _NotebookBar:
    """One state of a bar, as HTML and as text."""

    def __init__(self, line: str, done: int, total: int) -> None:
        self._line, self._done, self._total = line, done, total

    def __repr__(self) -> str:
        return self._line

    def _repr_html_(self) -> str:
        return f'<progress value="{self._done}" max="{max(1, self._total)}"></progress> {escape(self._line)}'


def _format_seconds(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class TrainingProgress(ProgressBar):
    """Progress of a training run with loss, pairs/s and the latest evaluation."""

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("training", console=console, clock=clock)
        self.pairs_per_second: float | None = None
        self.loss = 0.0
        self.eval_metrics = ""

    def show(self, report: "StepReport", eval_metrics: Mapping[str, float]) -> None:
        """Show one more step, with loss and rate smoothed over about 20 steps; the callback of a training run."""
        rate = report.num_pairs / report.seconds
        if self.pairs_per_second is None:
            self.pairs_per_second, self.loss = rate, report.metrics.loss
        self.pairs_per_second += 0.05 * (rate - self.pairs_per_second)
        self.loss += 0.05 * (report.metrics.loss - self.loss)
        if eval_metrics:
            self.eval_metrics = " · " + " · ".join(f"{name} {value:.1%}" for name, value in eval_metrics.items())
        self.update(
            report.step,
            report.total_steps,
            f"loss {self.loss:.3f} · {self.pairs_per_second:.0f} pairs/s{self.eval_metrics}",
        )


class EmbedProgress(ProgressBar):
    """Progress of an embedding run with images per second and counts of skipped images."""

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("embedding", console=console, clock=clock)
        self._start_seconds = clock()
        self._num_done_before: int | None = None

    def show(self, progress: "EmbedProgressReport") -> None:
        """Show the counts; the callback of an embedding run."""
        if self._num_done_before is None:
            self._start_seconds, self._num_done_before = self._clock(), progress.done
        seconds = self._clock() - self._start_seconds
        rate = f"{(progress.done - self._num_done_before) / seconds:.1f} images/s" if seconds else ""
        skipped = " · ".join(f"{count} {reason}" for reason, count in progress.skipped.most_common(2))
        self.update(progress.done, progress.total, " · ".join(filter(None, [rate, skipped])))


class ProgressDisplay:
    """A callback that shows the progress of any `run` function of `zebra.workflows`; a context manager."""

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._bar: ProgressBar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        self.stop()  # `run(config, callback=show_progress())` has no other end

    def stop(self) -> None:
        """End the display; the next call begins another one."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def __call__(self, *args: Any) -> None:
        """Show a state.

        Args:
            args: What the `run` function passes: done, total and a text; a StepReport and scores; or the counts of an
                embedding run.
        """
        match args:
            case (int(done), int(total)) | (int(done), int(total), str()):
                self._open(ProgressBar, "done").update(done, total, *args[2:])
            case (progress,):
                self._open(EmbedProgress).show(progress)
            case (report, scores):
                self._open(TrainingProgress).show(report, scores)
            case _:
                raise TypeError("pass show_progress() as callback= or progress= of a run function of zebra.workflows")

    def _open(self, bar_type: Callable[..., Bar], *title: str) -> Bar:
        if type(self._bar) is not bar_type:  # another task
            self.stop()
            self._bar = bar_type(*title, console=self._console, clock=self._clock)
        return cast(Bar, self._bar)


def show_progress() -> ProgressDisplay:
    """Return a callback that shows progress: a bar in a terminal or notebook, otherwise lines on standard error."""
    return ProgressDisplay()
