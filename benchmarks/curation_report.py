"""The page of the curation experiment: accuracies of the arms, and what each stage found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curation_arms import ALIGNED_SHARE, Truth, count_by_noise, find_wrong_drops, rare_kinds
from curation_training import Experiment, load_arm
from wild_menagerie import CLEAN, EVALUATION_IMAGE, SHARES, WRONG_CAPTION
from zebra.protocols.metrics import roc_auc
from zebra.report.page import Headline, ReportTable, Section, write_page
from zebra.report.style import (
    ACCENT,
    BACKGROUND,
    FAINT,
    FONT_SIZE,
    FOREGROUND,
    MUTED,
    SMALL_FONT_SIZE,
    WIDE_INCHES,
    add_axes,
    create_figure,
    fill_cell,
    format_percent,
    label_x_axis,
)
from zebra.values import Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "A": "raw",
    "B": "random part",
    "C": "rules",
    "D": "+ duplicates",
    "E": "+ alignment",
    "F": "+ balance",
    "F'": "F with the leaked images",
    "T": "E, trusted scorer",
    "G": "oracle: the clean pairs",
}
STAGES = {"rules": ("A", "C"), "duplicates": ("C", "D"), "alignment": ("D", "E"), "balance": ("E", "F")}
"""Stage → the arms before and after it."""
NUM_RESAMPLES = 4_000
KEPT_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What the models of an arm answered."""

    seeds: tuple[int, ...]
    correct: Mapping[str, NDArray[np.bool_]]
    """Dataset → [seeds, images]."""
    num_pairs: int

    def select(self, seeds: Sequence[int], dataset: str) -> NDArray[np.float64]:
        """Return whether the models of some seeds were right, [S, N]."""
        return self.correct[dataset][[self.seeds.index(seed) for seed in seeds]].astype(np.float64)


def collect_results(rows: Sequence[dict[str, Any]]) -> dict[str, ArmResult]:
    """Return the results of the arms with at least one row."""
    results = {}
    for arm in LABELS:
        own = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"])
        if own:
            correct = {
                name: np.array([_unpack(row["correct"][name], size) for row in own])
                for name, size in own[0]["images"].items()
            }
            results[arm] = ArmResult(tuple(row["seed"] for row in own), correct, own[0]["pairs"])
    return results


def compare(first: ArmResult, second: ArmResult, dataset: str) -> tuple[Score, int]:
    """Return the accuracy of the first minus the second arm over the seeds of both, and the number of seeds.

    The interval is the middle 95 % of a bootstrap that resamples seeds and images, with the pairs of both arms kept.
    """
    seeds = sorted(set(first.seeds) & set(second.seeds))
    return bootstrap_mean(first.select(seeds, dataset) - second.select(seeds, dataset)), len(seeds)


def bootstrap_mean(value_SN: NDArray[np.float64]) -> Score:
    """Return the mean over seeds and images, with the interval of a bootstrap over both."""
    num_seeds, num_images = value_SN.shape
    rng = np.random.default_rng(0)
    seed_BS = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), NUM_RESAMPLES) / num_seeds
    image_BN = rng.multinomial(num_images, np.full(num_images, 1 / num_images), NUM_RESAMPLES) / num_images
    mean_B = ((seed_BS @ value_SN) * image_BN).sum(axis=1)
    low, high = np.quantile(mean_B, (0.025, 0.975))
    return Score(float(value_SN.mean()), float(low), float(high), value_SN.size)


def write_report(experiment: Experiment, truth: Truth, path: Path) -> None:
    """Write the page from the rows that exist so far, and its first figure as SVG beside it."""
    world, rows = experiment.world, experiment.read_rows()
    results = collect_results(rows)
    table = measure_stages(world, truth)
    sections = [
        Section(
            "Accuracy by arm",
            f"Zero-shot top-1 of every arm after {experiment.config.steps:,} steps of {experiment.config.batch_size} "
            "pairs. A dot is a seed, the bar their mean with the 95 % interval over seeds and images.",
            plot_arms(results),
        ),
        Section(
            "Differences from the raw pool",
            "Percentage points on the same images with the same seeds; the interval resamples seeds and images.",
            difference_table(results),
        ),
        Section("Accuracy during training", "Mean over seeds on 300 images of the second dataset.", plot_curves(rows)),
        Section(
            "What each stage drops",
            "Share of the pairs that reach a stage and that it drops, by their noise. A perfect curator drops all "
            "but the clean ones; balancing thins out clean pairs on purpose.",
            plot_stages(table),
        ),
        Section(
            "Precision and recall of the stages",
            "A drop is right unless a perfect curator keeps the pair: the first pair of the pool, of those that reach "
            "the stage, with each clean image and a true caption.",
            stage_table(world, truth, table),
        ),
        *alignment_sections(world, truth),
        Section(
            "Rare kinds",
            "Share of the clean pairs that are kept, for all kinds and for the quarter of the kinds with the fewest.",
            rare_table(world, truth),
        ),
    ]
    figure = plot_arms(results)
    figure.patch.set(facecolor=BACKGROUND, alpha=1)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    write_page(path, "Curation at equal compute", _lead(results, truth), sections, _headlines(results))


def _lead(results: Mapping[str, ArmResult], truth: Truth) -> str:
    num_seeds = len(results["A"].seeds) if "A" in results else 0
    return (
        f"A pool of {len(truth.noise_N):,} images with captions has the faults of the web: "
        f"{np.mean(truth.noise_N == CLEAN):.0%} of its pairs are clean, and the truth about every pair is known. zebra "
        "curates it without the truth. Each arm then trains the same model with the same number of pairs seen. Seeds "
        f"of the raw arm so far: {num_seeds}."
    )


def _headlines(results: Mapping[str, ArmResult]) -> list[Headline]:
    if not {"A", "F", "G"} <= set(results):
        return []
    headlines = []
    for dataset in [*results["A"].correct][::-1]:
        gain, num_seeds = compare(results["F"], results["A"], dataset)
        note = f"{_interval(gain)}, seeds: {num_seeds}"
        headlines.append(Headline(format_points(gain.value), f"F − A, {dataset}", note))
    unseen = [*results["A"].correct][-1]
    seeds = sorted(set.intersection(*(set(results[arm].seeds) for arm in "AFG")))
    if seeds:
        raw, curated, oracle = (float(results[arm].select(seeds, unseen).mean()) for arm in "AFG")
        share = format_percent((curated - raw) / (oracle - raw), 0)
        headlines.append(
            Headline(share, "of the way from raw to the oracle", f"{unseen}, seeds of all three: {len(seeds)}")
        )
    return headlines


def plot_arms(results: Mapping[str, ArmResult]) -> "Figure":
    """Plot the accuracy of every arm on both datasets."""
    figure = create_figure(WIDE_INCHES, 0.9 + 0.34 * len(results))
    for panel, dataset in enumerate(next(iter(results.values())).correct):
        left = 1.75 + panel * (WIDE_INCHES - 1.75) / 2
        axes = add_axes(figure, left, 0.45, WIDE_INCHES - left - (WIDE_INCHES - 1.75) / 2 + 0.65, 0.4)
        for row, (arm, result) in enumerate(results.items()):
            value_SN = result.select(result.seeds, dataset)
            score = bootstrap_mean(value_SN)
            color = ACCENT if arm == "F" else FOREGROUND if arm in "AG" else MUTED
            axes.plot([score.low, score.high], [row, row], color=color, linewidth=7, alpha=0.25, solid_capstyle="butt")
            axes.plot(value_SN.mean(axis=1), np.full(len(value_SN), row), "o", color=color, markersize=3.5, alpha=0.6)
            axes.plot(score.value, row, "|", color=color, markersize=13, markeredgewidth=2)
            axes.annotate(
                format_percent(score.value), (1.02, row), xycoords=("axes fraction", "data"), va="center",
                fontsize=SMALL_FONT_SIZE, color=color, annotation_clip=False,
            )  # fmt: skip
        axes.set_ylim(len(results) - 0.4, -0.6)
        axes.set_xlim(0)
        axes.set_yticks(
            range(len(results)), [f"{arm}  {LABELS[arm]}" for arm in results] if panel == 0 else [""] * len(results)
        )
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.xaxis.set_major_formatter(lambda value, _: format_percent(value, 0))
        axes.set_title(dataset, fontsize=FONT_SIZE, color=FOREGROUND, fontweight="bold", loc="left")
        label_x_axis(axes, "zero-shot top-1")
    return figure


def plot_curves(rows: Sequence[dict[str, Any]]) -> "Figure":
    """Plot the mean accuracy of every arm during training, on the last dataset."""
    dataset, batch_size = [*rows[0]["top1"]][-1], rows[0]["batch_size"]
    figure = create_figure(WIDE_INCHES, 3.4)
    axes = add_axes(figure, 0.5, 0.5, 1.9, 0.15)
    ends = {}
    for arm in LABELS:
        curves = [row["curve"] for row in rows if row["arm"] == arm and row["curve"]]
        if not curves:
            continue
        steps = [point["step"] for point in curves[0]]
        mean = np.mean([[point[dataset] for point in curve] for curve in curves], axis=0)
        style = {
            "color": ACCENT if arm == "F" else FOREGROUND if arm in "AG" else MUTED,
            "linewidth": 2.0 if arm in "AFG" else 1.1,
            "linestyle": "--" if arm in ("B", "T", "F'") else "-",
        }
        axes.plot(np.array(steps) * batch_size, mean, **style)
        ends[arm] = (mean[-1], steps[-1] * batch_size, style["color"])
    height = -1.0
    for arm, (value, x, color) in sorted(ends.items(), key=lambda item: item[1][0]):
        height = max(value, height + 0.026)  # labels must not overlap
        axes.annotate(f"{arm}  {LABELS[arm]}", (x, height), (8, 0), textcoords="offset points", va="center",
                      fontsize=SMALL_FONT_SIZE, color=color, annotation_clip=False)  # fmt: skip
    axes.set_xlim(0)
    axes.set_ylim(0)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: format_percent(value, 0))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}k" if value else "0")
    label_x_axis(axes, "pairs seen")
    return figure


def difference_table(results: Mapping[str, ArmResult]) -> ReportTable:
    """Return the differences of all arms from A."""
    rows = []
    for arm, result in results.items():
        cells = [f"{arm} {LABELS[arm]}", f"{result.num_pairs:,}", str(len(result.seeds))]
        for dataset in result.correct:
            if arm == "A":
                cells.append("–")
            else:
                score, _ = compare(result, results["A"], dataset)
                cells.append(f"{format_points(score.value)} {_interval(score)}")
        rows.append(tuple(cells))
    return ReportTable(("arm", "pairs", "seeds", *results["A"].correct), tuple(rows))


def measure_stages(world: Path, truth: Truth) -> dict[str, dict[str, tuple[int, int]]]:
    """Return, for each stage whose arms exist, noise → (pairs that reach it, pairs that it drops)."""
    table = {}
    for stage, (before, after) in STAGES.items():
        if (world / "arms" / f"{after}.npy").exists():
            before_counts, after_counts = (count_by_noise(truth, load_arm(world, arm)) for arm in (before, after))
            table[stage] = {
                noise: (before_counts[noise], before_counts[noise] - after_counts[noise]) for noise in SHARES
            }
    return table


def plot_stages(table: Mapping[str, Mapping[str, tuple[int, int]]]) -> "Figure":
    """Plot the share that each stage drops of each noise."""
    noises = [noise for noise in SHARES if noise != EVALUATION_IMAGE]
    figure = create_figure(WIDE_INCHES, 0.6 + 0.3 * len(noises))
    axes = add_axes(figure, 1.6, 0.1, 0.3, 0.45)
    for column, counts in enumerate(table.values()):
        for row, noise in enumerate(noises):
            found, dropped = counts[noise]
            share = dropped / found if found else 0.0
            fill_cell(axes, row, column, MUTED if noise == CLEAN else ACCENT, 0.75 * share)
            label = f"{share:.0%} of {found:,}" if found else "–"
            axes.text(column, row, label, ha="center", va="center", fontsize=SMALL_FONT_SIZE, color=FOREGROUND)
    axes.set_xlim(-0.5, len(table) - 0.5)
    axes.set_ylim(len(noises) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(table)), list(table))
    axes.set_yticks(range(len(noises)), noises)
    return figure


def stage_table(world: Path, truth: Truth, table: Mapping[str, Mapping[str, tuple[int, int]]]) -> ReportTable:
    """Return counts, precision and recall of every stage."""
    rows = []
    for stage in table:
        before, after = (load_arm(world, arm) for arm in STAGES[stage])
        dropped = np.setdiff1d(before, after)
        num_wrong = len(find_wrong_drops(truth, before, dropped))
        num_noise = len(before) - len(find_wrong_drops(truth, before, before))
        num_right = len(dropped) - num_wrong
        rows.append(
            (stage, f"{len(before):,}", f"{len(dropped):,}", f"{num_right / max(1, len(dropped)):.1%}",
             f"{num_right / max(1, num_noise):.1%}")
        )  # fmt: skip
    return ReportTable(("stage", "pairs", "dropped", "precision", "recall of all noise"), tuple(rows))


def alignment_sections(world: Path, truth: Truth) -> list[Section]:
    """Return how the scorers separate true captions from wrong ones at other kept shares, if D was scored."""
    position_K = load_arm(world, "D with leaks") if (world / "arms" / "D with leaks.npy").exists() else np.zeros(0, int)
    sections = []
    for name, file in (("cross-fitted", "scores.npy"), ("trusted", "trusted_scores.npy")):
        if (world / "arms" / file).exists():
            score_K = np.load(world / "arms" / file)
            is_true_K, is_wrong_K = truth.noise_N[position_K] == CLEAN, truth.noise_N[position_K] == WRONG_CAPTION
            rows = []
            for share in KEPT_SHARES:
                is_kept_K = score_K >= np.quantile(score_K, 1 - share)
                left = is_wrong_K[is_kept_K].sum() / (is_wrong_K | is_true_K)[is_kept_K].sum()
                clean_share, wrong_share = (float(is_kept_K[mask_K].mean()) for mask_K in (is_true_K, is_wrong_K))
                rows.append((f"{share:.0%}", f"{clean_share:.1%}", f"{wrong_share:.1%}", f"{left:.1%}"))
            auc = roc_auc(score_K[is_true_K | is_wrong_K], is_true_K[is_true_K | is_wrong_K])
            columns = ("kept share of D", "clean pairs kept", "wrong captions kept", "wrong among these")
            summary = (
                f"Cosine of the {name} scorer: clean pairs against wrong captions, ROC-AUC {auc.value:.3f}. The arm "
                f"keeps {ALIGNED_SHARE:.0%}."
            )
            sections.append(Section(f"Alignment, {name} scorer", summary, ReportTable(columns, tuple(rows))))
    return sections


def rare_table(world: Path, truth: Truth) -> ReportTable:
    """Return the kept share of clean pairs, of all kinds and of rare ones."""
    is_clean_N = (truth.noise_N == CLEAN) & (truth.kind_N != " ")
    is_rare_N = is_clean_N & np.isin(truth.kind_N, rare_kinds(truth))
    rows = []
    for arm in ("C", "D", "E", "F"):
        if (world / "arms" / f"{arm}.npy").exists():
            position_K = load_arm(world, arm)
            kept, rare = (float(mask[position_K].sum() / mask.sum()) for mask in (is_clean_N, is_rare_N))
            rows.append((f"{arm} {LABELS[arm]}", f"{kept:.1%}", f"{rare:.1%}", f"{rare / kept:.2f}"))
    return ReportTable(("arm", "clean pairs kept", "of rare kinds", "ratio"), tuple(rows))


def format_points(value: float) -> str:
    """Format a difference of accuracies in percentage points.

    >>> format_points(0.084), format_points(-0.02)
    ('+8.4', '−2.0')
    """
    return f"{100 * value:+.1f}".replace("-", "−")


def _interval(score: Score) -> str:
    return f"[{format_points(score.low)}, {format_points(score.high)}]"


def _unpack(bits: str, num_images: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=num_images).astype(np.bool_)
