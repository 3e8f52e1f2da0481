"""The table and the figure of the comparison of trainers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zebra.protocols.paired_test import SampleScores, compare_paired
from zebra.report.style import (
    ACCENT,
    BACKGROUND,
    FAINT,
    FONT_SIZE,
    FOREGROUND,
    MUTED,
    SMALL_FONT_SIZE,
    add_axes,
    create_figure,
    format_percent,
)
from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Run = tuple[str, str]
"""Trainer and settings."""
ZEBRA, PEER = ("zebra", "zebra"), ("open_clip", "open_clip")
LINES: Mapping[Run, tuple[str, str, str]] = {
    ZEBRA: ("zebra", ACCENT, "-"),
    ("zebra", "adamw"): ("zebra with AdamW", ACCENT, ":"),
    ("zebra", "open_clip"): ("zebra, open_clip's settings", ACCENT, "--"),
    PEER: ("open_clip", FOREGROUND, "-"),
    ("open_clip", "zebra"): ("open_clip with Muon", FOREGROUND, "--"),
    ("open_clip", "adamw"): ("open_clip, zebra's AdamW", FOREGROUND, ":"),
}
"""Label, color and line style of each run."""
PANELS = {
    "emoji": (
        ("unseen-artist", "top1", "an unseen artist"),
        ("unseen-concepts", "top1 of present", "150 unseen concepts"),
    ),
    "menagerie": (("seen-kinds", "top1", "seen kinds"), ("unseen-kinds", "top1", "unseen kinds")),
}
"""World → evaluation set, score and title of each panel."""
COLUMN_INCHES = 2.65
COMPARED = (
    ("unseen-artist", "all"), ("unseen-concepts", "all"), ("unseen-concepts", "present"),
    ("seen-kinds", "all"), ("unseen-kinds", "all"), ("zebra", "all"),
)  # fmt: skip
"""Evaluation sets, and the classes among which the right one must be first."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """All seeds of a trainer with some settings on one world."""

    rows: tuple[Mapping[str, Any], ...]

    def curve(self, dataset: str, score: str) -> dict[str, NDArray[np.float64]]:
        """Return samples, CPU seconds and score of each point, as means over the seeds."""
        value = np.array([[point[dataset][score] for point in row["curve"]] for row in self.rows])
        columns = {
            name: np.array([[point[name] for point in row["curve"]] for row in self.rows]).mean(axis=0)
            for name in ("samples", "cpu_seconds")
        }
        return columns | {"value": value.mean(axis=0)}

    def correct(self, dataset: str, classes: str) -> SampleScores:
        """Return for each image the share of seeds that are right at the end."""
        num_images = self.rows[0]["images"][dataset]
        value_SN = np.stack([_unpack(row["correct"][f"{dataset}, {classes}"], num_images) for row in self.rows])
        return SampleScores(tuple(map(str, range(num_images))), value_SN.mean(axis=0))

    def seconds_to_reach(self, dataset: str, score: str, level: float) -> float | None:
        """Return the CPU seconds at which the mean curve first reaches a level; None if it does not."""
        curve = self.curve(dataset, score)
        value, seconds = curve["value"], curve["cpu_seconds"]
        reached = np.flatnonzero(value >= level)
        if not len(reached):
            return None
        index = int(reached[0])
        if index == 0:
            return float(seconds[0])
        share = (level - value[index - 1]) / (value[index] - value[index - 1])
        return float(seconds[index - 1] + share * (seconds[index] - seconds[index - 1]))


def group_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[Run, RunResult]]:
    """Return the results by world and run, of the most epochs that the world has been trained for."""
    results: dict[str, dict[Run, RunResult]] = {}
    for world in PANELS:
        own = [row for row in rows if row["world"] == world]
        longest = max((row["epochs"] for row in own), default=0)
        for run in LINES:
            seeds = [row for row in own if (row["trainer"], row["settings"]) == run and row["epochs"] == longest]
            if seeds:
                results.setdefault(world, {})[run] = RunResult(tuple(seeds))
    return results


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the final scores with the CPU seconds, and the differences from open_clip."""
    for world, results in group_rows(rows).items():
        sets = [(name, classes) for name, classes in COMPARED if name in next(iter(results.values())).rows[0]["images"]]
        print(f"\n{world}, {next(iter(results.values())).rows[0]['curve'][-1]['samples']:,} samples")
        print("| run | seeds | " + " | ".join(f"{name} ({classes})" for name, classes in sets) + " | CPU seconds |")
        for run, result in results.items():
            values = [result.correct(name, classes).value_N.mean() for name, classes in sets]
            seconds = result.curve(*PANELS[world][0][:2])["cpu_seconds"][-1]
            cells = [LINES[run][0], str(len(result.rows)), *map(format_percent, values), f"{seconds:.0f}"]
            print("| " + " | ".join(cells) + " |")
        if ZEBRA in results and PEER in results:
            _print_differences(world, results, sets)


def _print_differences(world: str, results: Mapping[Run, RunResult], sets: Sequence[tuple[str, str]]) -> None:
    zebra, peer = results[ZEBRA], results[PEER]
    for name, classes in sets:
        difference = compare_paired(zebra.correct(name, classes), peer.correct(name, classes)).difference
        print(f"zebra - open_clip, {name} ({classes}): {format_difference(difference)} points")
    for name, score, _ in PANELS[world]:
        # The lower of the two final scores: the higher one is never reached by the other.
        level = min(float(run.curve(name, score)["value"][-1]) for run in (zebra, peer))
        seconds, peer_seconds = (run.seconds_to_reach(name, score, level) for run in (zebra, peer))
        assert seconds is not None
        assert peer_seconds is not None
        factor = f"{peer_seconds / seconds:.2f} times fewer"
        print(f"CPU seconds to {level:.1%} on {name}: {seconds:.0f} against {peer_seconds:.0f}, {factor}")


def format_difference(score: Score) -> str:
    """Format a difference of accuracies in points with its interval.

    >>> format_difference(Score(0.08, 0.05, 0.11, 90))
    '+8.0 [+5.0, +11.0]'
    """
    return f"{100 * score.value:+.1f} [{100 * score.low:+.1f}, {100 * score.high:+.1f}]"


def write_plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot accuracy against samples and against CPU seconds."""
    results = group_rows(rows)
    panels = [(world, *panel) for world in results for panel in PANELS[world]]
    width = 0.5 + COLUMN_INCHES * len(panels)
    figure = create_figure(width, 5.2)
    figure.patch.set(facecolor=BACKGROUND, alpha=1)
    handles: dict[str, Any] = {}
    for column, (world, dataset, score, title) in enumerate(panels):
        for bottom, name, label in ((3.0, "samples", "samples"), (0.5, "cpu_seconds", "CPU seconds of one thread")):
            left = 0.5 + COLUMN_INCHES * column
            axes = add_axes(figure, left, bottom, width - left - COLUMN_INCHES + 0.4, 5.2 - bottom - 1.65)
            for run, result in results[world].items():
                curve = result.curve(dataset, score)
                line_label, color, style = LINES[run]
                (handles[line_label],) = axes.plot(curve[name], curve["value"], style, color=color, linewidth=1.6)
            _style_axes(axes, label)
            if name == "samples":
                axes.set_title(f"{world}: {title}", fontsize=FONT_SIZE, color=FOREGROUND, fontweight="bold", loc="left")
    figure.legend(
        handles.values(),
        handles,
        loc="upper left",
        ncols=len(handles),
        frameon=False,
        fontsize=SMALL_FONT_SIZE,
        labelcolor=FOREGROUND,
    )
    figure.savefig(path, metadata={"Date": None})


def _style_axes(axes: "Axes", label: str) -> None:
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(lambda value, _: format_percent(value, 0))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_xlabel(label, fontsize=SMALL_FONT_SIZE, color=MUTED, loc="left")


def _unpack(bits: str, num_images: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=num_images).astype(np.bool_)
