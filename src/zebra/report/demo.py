"""The demo's report: the world, the run and its outcomes in; report.html out, one figure per claim."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.sources import open_source
from zebra.evaluators.linear_probe import ProbeResults
from zebra.evaluators.zero_shot import PromptAblation
from zebra.menagerie.contact_sheet import draw_contact_sheet
from zebra.menagerie.splits import ALL_KINDS, HELD_OUT_ANIMALS, UNSEEN_KINDS, kind_name
from zebra.menagerie.write import MenageriePaths
from zebra.pretrained.bundle import Bundle
from zebra.protocols.metrics import confusion_matrix
from zebra.protocols.robustness import ShiftRobustness
from zebra.report.figures import plot_accuracy_bars, plot_limitations, plot_prompt_ablation
from zebra.report.figures import plot_confusion_matrix as confusion_figure
from zebra.report.image_figures import plot_predictions, plot_similarity_matrix
from zebra.report.page import Headline, ReportTable, Section, write_page
from zebra.report.study_figures import plot_few_shot, plot_robustness
from zebra.report.style import format_percent
from zebra.report.training import data_section, training_section
from zebra.train.metrics_logger import read_log
from zebra.train.run_dir import RunDir
from zebra.values import Score
from zebra.workflows.demo_studies import FINAL_MODEL

AblationsByDataset = Mapping[str, PromptAblation]

DEMO_LIMITATION_DATASETS = ("counting", "distance", "fine-grained", "typed-digits", "handwritten-digits")
RENDERING_DATASETS = ("seen-kinds", "sketch", "inverted", "noisy")
NUM_MATRIX_PAIRS = 10
"""Pairs of the similarity matrix: as many as can be read."""


def write_demo_report(
    run_dir: RunDir,
    menagerie: MenageriePaths,
    clip: Bundle,
    ablations: AblationsByDataset,
    probe_results: Mapping[str, ProbeResults],
    shifts: Sequence[ShiftRobustness],
) -> None:
    """Compose and write the page."""
    journal = read_log(run_dir.log)
    counts = json.loads(run_dir.sample_counts.read_text(encoding="utf-8"))
    unseen, seen, zebra = (top1_score(ablations, name) for name in ("unseen-kinds", "seen-kinds", "zebra"))
    headlines = [
        Headline(
            format_percent(unseen.value), "kinds never seen", f"chance {format_percent(1 / len(ALL_KINDS))}"
        ),
        Headline(format_percent(seen.value), "kinds of the training set", "new pictures of them"),
        Headline(
            format_percent(zebra.value),
            "zebras found",
            f"by a description, among {count_classes(ablations, 'zebra')}",
        ),
        Headline(
            f"{journal[-1]['samples']:,}", "pairs seen in training", f"{counts['found']:,} different ones"
        ),
    ]
    sections = [
        menagerie_section(),
        kinds_section(ablations),
        zebra_section(clip, ablations["zebra"]),
        training_section(journal, highlight="unseen-kinds"),
        similarity_section(menagerie, clip),
        prompts_section(ablations),
        limitations_section(ablations),
        few_shot_section(probe_results),
        shifts_section(ablations),
        *robustness_sections(shifts),
        *confusion_sections(ablations["unseen-kinds"]),
        data_section(counts),
    ]
    lead = (
        "A small CLIP was trained on drawn animals with captions. A fifth of the combinations of animal and coat, the "
        "striped horse among them, never occurred in a picture or a caption. This page shows what it recognises by "
        "words alone, and where it fails."
    )
    write_page(run_dir.report, "The zebra it had never seen", lead, sections, headlines)


def top1_score(ablations: AblationsByDataset, dataset: str) -> Score:
    """Return the top-1 accuracy of a set with all its prompts."""
    return ablations[dataset].ensemble.scores()["top1"]


def count_classes(ablations: AblationsByDataset, dataset: str) -> int:
    """Count the classes of a set."""
    return len(ablations[dataset].benchmark.classnames)


def menagerie_section() -> Section:
    """Show every kind, the held-out ones marked."""
    reading = (
        f"{len(ALL_KINDS)} kinds: each row an animal, each column a coat. The {len(UNSEEN_KINDS)} framed in red were held out: "
        "training saw those animals in other coats and those coats on other animals, never together."
    )
    return Section("The menagerie", reading, draw_contact_sheet(), "A grid of drawn animals in six coats.")


def kinds_section(ablations: AblationsByDataset) -> Section:
    """Compare seen and unseen kinds, and the zebra."""
    unseen, seen = top1_score(ablations, "unseen-kinds"), top1_score(ablations, "seen-kinds")
    gap = 100 * (seen.value - unseen.value)
    reading = (
        f"Each picture is compared with the names of all {len(ALL_KINDS)} kinds. Kinds that training never showed are "
        f"recognised {format_percent(unseen.value)} of the time, {abs(gap):.1f} points "
        f"{'less' if gap > 0 else 'more'} than new pictures of known kinds. Lines are 95 % intervals."
    )
    rows = {"seen kinds": seen, "unseen kinds": unseen}
    figure = plot_accuracy_bars(rows, chance=1 / len(ALL_KINDS), highlight="unseen kinds")
    return Section("Known parts, new combinations", reading, figure)


def zebra_section(clip: Bundle, ablation: PromptAblation) -> Section:
    """Show some zebras with the descriptions that the model ranks first."""
    names = ablation.benchmark.classnames
    chosen = np.linspace(0, len(ablation.benchmark.source) - 1, 6).astype(int).tolist()
    pictures = [_open_image(ablation.benchmark.source.read(index).image) for index in chosen]
    ranked = clip.classify(pictures, names, ablation.benchmark.templates)
    score = ablation.ensemble.scores()["top1"]
    reading = (
        f"No caption ever held the word “zebra” and no picture a striped horse. Among {len(names)} descriptions, "
        f"“{names[0]}” comes first for {format_percent(score.value)} of {score.n:,} pictures; six of them, evenly spaced."
    )
    return Section("The zebra", reading, plot_predictions(pictures, ranked, [names[0]] * len(pictures)))


def similarity_section(menagerie: MenageriePaths, clip: Bundle) -> Section:
    """Show what training maximises: the diagonal of a batch's similarities."""
    source = open_source(str(menagerie.train_dir), DataConfig())
    records = [
        source.read(index) for index in np.linspace(0, len(source) - 1, NUM_MATRIX_PAIRS).astype(int).tolist()
    ]
    pictures, captions = [_open_image(record.image) for record in records], [r.captions[0] for r in records]
    scores_NN = (clip.encode_texts(captions) @ clip.encode_images(pictures).T).numpy()
    reading = (
        "Cosine similarity of every caption (rows) with every picture (columns) of a small training batch. Training "
        "raises the outlined diagonal against the rest of its row and column."
    )
    return Section(
        "One batch, as the loss sees it", reading, plot_similarity_matrix(scores_NN, pictures, captions)
    )


def prompts_section(ablations: AblationsByDataset) -> Section:
    """Compare the bare name, one prompt, and the ensemble in embedding space."""
    names = ("seen-kinds", "unseen-kinds", "zebra", *DEMO_LIMITATION_DATASETS[:3])
    ladders = {
        name: (
            ablations[name].bare_name.scores()["top1"],
            ablations[name].one_prompt.scores()["top1"],
            top1_score(ablations, name),
        )
        for name in names
    }
    bare, one, every = (score.value for score in ladders["unseen-kinds"])
    prompts = len(ablations["unseen-kinds"].benchmark.templates)
    reading = (
        f"Each class vector is the mean of {prompts} phrasings. On unseen kinds "
        f"the bare name gives {format_percent(bare)}, one prompt {100 * (one - bare):+.1f} points, all of them "
        f"{100 * (every - one):+.1f} more."
    )
    return Section("The bare name, one prompt, many", reading, plot_prompt_ablation(ladders))


def limitations_section(ablations: AblationsByDataset) -> Section:
    """Report the paper's limitations as they are found here (CLIP §6)."""
    rows = {
        name: (top1_score(ablations, name), 1 / count_classes(ablations, name))
        for name in DEMO_LIMITATION_DATASETS
    }
    typed, hand = (
        top1_score(ablations, "typed-digits").value,
        top1_score(ablations, "handwritten-digits").value,
    )
    reading = (
        "Each of these was shown to the model in a small part of its training, except handwriting. The bar runs from "
        f"chance to its accuracy. Numbers typed in fonts it never saw: {format_percent(typed)}; handwritten ones, which look "
        f"like nothing it was trained on: {format_percent(hand)}."
    )
    return Section("What is hard for it", reading, plot_limitations(rows))


def few_shot_section(probe_results: Mapping[str, ProbeResults]) -> Section:
    """Draw the probe's accuracy with a few examples per class, and zero-shot's beside it (CLIP Fig. 6)."""
    curves = {
        name: (
            {point.shots: point.mean().score for point in study.few_shot_results},
            study.zero_shot_result.scores()["top1"],
            1 / study.zero_shot_result.num_classes,
        )
        for name, study in probe_results.items()
    }
    needed = "; ".join(f"{name} {study.describe_data_efficiency()}" for name, study in probe_results.items())
    reading = (
        "The same abilities with labelled examples instead of words: a linear probe on the model's features, three "
        f"draws each, judged on the other half of each set. Examples per class that equal words alone: {needed}. Where "
        "the curve rises far above the line, the features know what the words do not reach."
    )
    return Section("Words against examples", reading, plot_few_shot(curves))


def robustness_sections(shifts: Sequence[ShiftRobustness]) -> list[Section]:
    """Draw the final model against the line of its own earlier checkpoints (CLIP Fig. 13)."""
    if not shifts:
        return []
    shift = shifts[-1]
    height = shift.effective_robustness[FINAL_MODEL]
    figure = plot_robustness(
        {
            name: (shift.standard_scores[name], shift.shifted_scores[name])
            for name in shift.standard_scores
            if name != FINAL_MODEL
        },
        {FINAL_MODEL: (shift.standard_scores[FINAL_MODEL], shift.shifted_scores[FINAL_MODEL])},
        shift.line.predict,
        shift.line.confidence_band,
        "seen kinds",
        "the mean of sketch, inverted and noisy",
    )
    reading = (
        "Each point is this run at an earlier checkpoint: how well it knows the kinds as they were drawn in training, "
        "and how well under the three renderings it never saw. The end of training stands "
        f"{100 * height.value:+.1f} points [{100 * height.low:+.1f}, {100 * height.high:+.1f}] from the line that its "
        "course had promised."
    )
    return [Section("Effective robustness", reading, figure)]


def shifts_section(ablations: AblationsByDataset) -> Section:
    """Compare the known kinds under other renderings."""
    rows = {name: top1_score(ablations, name) for name in RENDERING_DATASETS}
    worst = min(RENDERING_DATASETS[1:], key=lambda name: rows[name].value)
    reading = (
        "The same known kinds drawn as line sketches, with inverted colours, and under heavy noise; training saw none "
        f"of these. The hardest is “{worst}” with {format_percent(rows[worst].value)}."
    )
    return Section(
        "Other renderings of known kinds",
        reading,
        plot_accuracy_bars(rows, chance=1 / len(ALL_KINDS), highlight=worst),
    )


def confusion_sections(ablation: PromptAblation) -> list[Section]:
    """Split the mistakes on unseen kinds into animals and coats, and name the most frequent ones."""
    truth, guess = ablation.ensemble.label_N, ablation.ensemble.ranked_NK[:, 0]
    animals = list(dict.fromkeys(animal for animal, _ in ALL_KINDS))
    coats = list(HELD_OUT_ANIMALS)
    animal_of = np.array([animals.index(animal) for animal, _ in ALL_KINDS])
    coat_of = np.array([coats.index(coat) for _, coat in ALL_KINDS])
    right = [float((table[truth] == table[guess]).mean()) for table in (animal_of, coat_of)]
    names = [kind_name(animal, coat) for animal, coat in ALL_KINDS]
    return [
        Section(
            "Which animal it says, on unseen kinds",
            f"The animal alone is right {format_percent(right[0])} of the time. Rows are true, columns said, in per cent.",
            confusion_figure(confusion_matrix(animal_of[guess], animal_of[truth], len(animals)), animals),
        ),
        Section(
            "Which coat it says, on unseen kinds",
            f"The coat alone is right {format_percent(right[1])} of the time.",
            confusion_figure(confusion_matrix(coat_of[guess], coat_of[truth], len(coats)), coats),
        ),
        Section(
            "Every unseen kind, and what it is taken for",
            "Accuracy of each held-out kind and its most frequent wrong answer.",
            build_confusion_table(truth, guess, names),
        ),
    ]


def build_confusion_table(
    label_N: NDArray[np.int64], predicted_N: NDArray[np.int64], classnames: Sequence[str]
) -> ReportTable:
    """List each true class with its accuracy and its most frequent wrong answer, worst first."""
    rows = []
    for index in np.unique(label_N).tolist():
        said = predicted_N[label_N == index]
        wrong = Counter(said[said != index].tolist()).most_common(1)
        mistake = (
            f"{classnames[wrong[0][0]]} ({format_percent(wrong[0][1] / len(said), 0)})" if wrong else "none"
        )
        rows.append((float((said == index).mean()), classnames[index], mistake))
    rows.sort()
    return ReportTable(
        ("kind", "recognised", "most often taken for"),
        tuple((name, format_percent(share, 0), mistake) for share, name, mistake in rows),
    )


def _open_image(data: bytes) -> Image.Image:
    """Decode one of the world's own pictures."""
    return Image.open(io.BytesIO(data)).convert("RGB")
