"""Progress of long tasks: plain lines in a log, a bar in a terminal, HTML in a notebook."""

import io
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from rich.console import Console

import zebra
from zebra.cli.progress import EmbedProgress, ProgressBar, ProgressDisplay, TrainingProgress


class Clock:
    """A clock that stands still unless it is set."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log():
    """Return a console that writes to a file."""
    return Console(file=io.StringIO(), force_terminal=False, width=20)


def report(step):
    metrics = SimpleNamespace(loss=1.32)
    return SimpleNamespace(step=step, total_steps=1500, num_pairs=64, seconds=0.5, metrics=metrics)


def lines(console):
    return console.file.getvalue().splitlines()


def test_a_log_gets_a_line_at_the_start_every_30_seconds_and_at_the_end(log, clock):
    with ProgressBar("drawing", console=log, clock=clock) as bar:
        for second in range(101):
            clock.seconds = second
            bar.update(second, 100)
    assert lines(log) == [
        "drawing 0/100",
        "drawing 30/100 · 70 s left",
        "drawing 60/100 · 40 s left",
        "drawing 90/100 · 10 s left",
        "drawing 100/100 · took 2 min",
    ]


def test_a_task_that_never_began_prints_nothing(log, clock):
    with ProgressBar("drawing", console=log, clock=clock):
        pass
    assert lines(log) == []


def test_a_task_that_ends_early_says_after_what_time(log, clock):
    with pytest.raises(KeyboardInterrupt), ProgressBar("overlap", console=log, clock=clock) as bar:
        bar.update(1, 1000, "comparing")
        clock.seconds = 3 * 3600
        raise KeyboardInterrupt
    assert lines(log) == ["overlap 1/1000 · comparing", "overlap 1/1000 · comparing · stopped after 3 h 0 min"]


def test_the_remaining_time_counts_only_work_of_this_run_and_phase(log, clock):
    bar = ProgressBar("training", console=log, clock=clock)
    bar.update(900, 1000)  # resumed
    clock.seconds = 60
    bar.update(950, 1000)
    clock.seconds = 100
    bar.update(10, 500)  # another phase
    clock.seconds = 110
    bar.update(60, 500)
    clock.seconds = 130
    bar.update(110, 500)
    assert lines(log) == [
        "training 900/1000",
        "training 950/1000 · 60 s left",
        "training 10/500",
        "training 110/500 · 2 min left",
    ]


def test_nothing_is_printed_after_the_end(log, clock):
    bar = ProgressBar("drawing", console=log, clock=clock)
    bar.update(1, 1)
    for _ in range(2):
        bar.stop()
        bar.update(1, 1)
    assert lines(log) == ["drawing 1/1", "drawing 1/1 · took 0 s"]


def test_a_log_that_cannot_be_written_does_not_end_the_task(clock):
    class FullDisk(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    with ProgressBar("drawing", console=Console(file=FullDisk()), clock=clock) as bar:
        bar.update(1, 2)


def test_training_shows_loss_speed_and_the_latest_evaluation(log, clock):
    with TrainingProgress(console=log, clock=clock) as progress:
        progress.show(report(400), {})
        progress.show(report(410), {"zebra top1": 0.5})
        clock.seconds = 30
        progress.show(report(420), {})
    assert lines(log) == [
        "training 400/1500 · loss 1.320 · 128 pairs/s",
        "training 420/1500 · loss 1.320 · 128 pairs/s · zebra top1 50.0% · 27 min left",
        "training 420/1500 · loss 1.320 · 128 pairs/s · zebra top1 50.0% · stopped after 30 s",
    ]


def test_embedding_shows_speed_and_skipped_images(log, clock):
    with EmbedProgress(console=log, clock=clock) as progress:
        progress.show(SimpleNamespace(done=0, total=300, skipped=Counter()))
        clock.seconds = 30
        progress.show(SimpleNamespace(done=150, total=300, skipped=Counter({"truncated": 2})))
    assert lines(log)[:2] == ["embedding 0/300", "embedding 150/300 · 5.0 images/s · 2 truncated · 30 s left"]


def test_a_terminal_gets_a_bar_that_makes_room_for_other_lines(clock):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)
    with ProgressBar("evaluating", console=terminal, clock=clock) as bar:
        bar.update(1, 4, "[bold]digits")
        bar.pause()
        bar.pause()
        before = terminal.file.getvalue()
        assert "1/4" in before
        assert "[bold]digits" in before
        assert before.endswith("\x1b[2K")  # the line of the bar is erased
        bar.update(4, 4)
    assert "4/4" in terminal.file.getvalue()[len(before) :]


def test_a_bar_does_not_move_standard_output_to_standard_error(clock, monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    terminal = Console(file=io.StringIO(), force_terminal=True, legacy_windows=False)
    with ProgressBar("evaluating", console=terminal, clock=clock) as bar:
        bar.update(1, 4)
        sys.stdout.write("scores\n")
    assert output.getvalue() == "scores\n"


def test_a_dumb_terminal_gets_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True)
    with ProgressBar("drawing", console=console, clock=clock) as bar:
        bar.update(1, 1)
    assert lines(console) == ["drawing 1/1", "drawing 1/1 · took 0 s"]


def test_a_notebook_gets_a_bar_without_scripts(clock, monkeypatch):
    shown = []

    def display(value, display_id):
        shown.append(value)
        return SimpleNamespace(update=shown.append)

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    with ProgressBar("drawing", console=notebook, clock=clock) as bar:
        bar.update(0, 4, "<script>")
        bar.update(1, 4, "too soon")
        clock.seconds = 1
        bar.update(2, 4, "<script>")
    assert [repr(value) for value in shown] == [
        "drawing 0/4 · <script>",
        "drawing 2/4 · <script> · 1 s left",
        "drawing 2/4 · <script> · stopped after 1 s",
    ]
    assert shown[1]._repr_html_() == ('<progress value="2" max="4"></progress> drawing 2/4 · &lt;script&gt; · 1 s left')


def test_one_callback_shows_every_kind_of_task(log, clock):
    with ProgressDisplay(console=log, clock=clock) as callback:
        callback(1, 4)
        callback(4, 4, "comparing")
        callback(report(1500), {"zebra top1": 0.5})
        callback(SimpleNamespace(done=0, total=300, skipped=Counter()))
    assert lines(log) == [
        "done 1/4",
        "done 4/4 · comparing · took 0 s",
        "training 1500/1500 · loss 1.320 · 128 pairs/s · zebra top1 50.0%",
        "training 1500/1500 · loss 1.320 · 128 pairs/s · zebra top1 50.0% · took 0 s",
        "embedding 0/300",
        "embedding 0/300 · stopped after 0 s",
    ]


def test_a_callback_without_a_with_statement_ends_with_its_task(log, clock):
    def run(callback):
        callback(1, 4)

    run(ProgressDisplay(console=log, clock=clock))
    assert lines(log) == ["done 1/4", "done 1/4 · stopped after 0 s"]


def test_a_callback_refuses_other_arguments():
    with pytest.raises(TypeError, match=r"pass show_progress\(\) as callback="):
        zebra.show_progress()(1, 2, 3, 4)
