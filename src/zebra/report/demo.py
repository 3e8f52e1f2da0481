"""The demo report: one section with a figure for each result of `zebra demo`."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.sources import open_source
from zebra.evaluators.embeddings import evenly_spaced
from zebra.evaluators.linear_probe import ProbeResults
from zebra.evaluators.zero_shot import PromptAblation
from zebra.menagerie.contact_sheet import draw_contact_sheet
from zebra.menagerie.splits import ALL_KINDS, HELD_OUT_ANIMALS, UNSEEN_KINDS, kind_name
from zebra.menagerie.write import MenageriePaths
from zebra.pretrained.bundle import Bundle
from zebra.protocols.metrics import confusion_matrix
from zebra.protocols.robustness import ShiftRobustness
from zebra.report.figures import plot_accuracy_bars, plot_confusion_matrix, plot_limitations, plot_prompt_ablation
from zebra.report.image_figures import plot_predictions, plot_similarity_matrix
from zebra.report.page import Headline, ReportTable, Section, write_page
from zebra.report.study_figures import plot_few_shot, plot_robustness
from zebra.report.style import format_percent
from zebra.report.training import data_section, training_section
from zebra.train.metrics_logger import read_log
from zebra.train.run_dir import RunDir
from zebra.values import Score

AblationsByDataset = Mapping[str, PromptAblation]

DEMO_LIMITATION_DATASETS = ("counting", "distance", "fine-grained", "typed-digits", "handwritten-digits")
RENDERING_DATASETS = ("seen-kinds", "sketch", "inverted", "noisy")
FINAL_MODEL = "final model"
"""Name of the trained model beside its earlier checkpoints."""
NUM_MATRIX_PAIRS = 10
"""Pairs in the similarity matrix; more would not be readable."""
NUM_ZEBRAS = 6


def write_demo_report(
    run_dir: RunDir,
    menagerie: MenageriePaths,
    clip: Bundle,
    ablations: AblationsByDataset,
    probe_results: Mapping[str, ProbeResults],
    shifts: Sequence[ShiftRobustness],
) -> None:
    """Write `report.html` into the run directory.

    Args:
        run_dir: The directory of the training run, with its log and sample counts.
        menagerie: The training data, for the similarity matrix.
        clip: The trained model.
        ablations: Zero-shot results by dataset.
        probe_results: Linear probes by dataset.
        shifts: Robustness of the trained model against its earlier checkpoints; may be empty.
    """
    log_entries = read_log(run_dir.log)
    sample_counts = json.loads(run_dir.sample_counts.read_text(encoding="utf-8"))
    unseen, seen, zebra = (top1_score(ablations, name) for name in ("unseen-kinds", "seen-kinds", "zebra"))
    headlines = [
        Headline(
            format_percent(unseen.value), "accuracy on unseen kinds", f"chance {format_percent(1 / len(ALL_KINDS))}"
        ),
        Headline(format_percent(seen.value), "accuracy on seen kinds", "on new images"),
        Headline(
            format_percent(zebra.value),
            "of zebras recognized",
            f"by description, among {count_classes(ablations, 'zebra')}",
        ),
        Headline(
            f"{log_entries[-1]['samples']:,}",
            "image–caption pairs processed",
            f"{sample_counts['found']:,} different pairs",
        ),
    ]
    sections = [
        menagerie_section(),
        kinds_section(ablations),
        zebra_section(clip, ablations["zebra"]),
        training_section(log_entries, highlight="unseen-kinds"),
        similarity_section(menagerie, clip),
        prompts_section(ablations),
        limitations_section(ablations),
        few_shot_section(probe_results),
        shifts_section(ablations),
        *robustness_sections(shifts),
        *confusion_sections(ablations["unseen-kinds"]),
        data_section(sample_counts),
    ]
    lead = (
        "A small CLIP model was trained on drawn animals with captions. Every animal has a coat, and an animal with a "
        "coat is called a kind. One fifth of the kinds, including the striped horse (a zebra), never appeared in "
        "training. This report shows how well the model recognizes them from text alone, and where it fails."
    )
    write_page(run_dir.report, "Recognizing a zebra without having seen one", lead, sections, headlines)


def top1_score(ablations: AblationsByDataset, dataset: str) -> Score:
    """Return the zero-shot top-1 accuracy on a dataset with all its prompts."""
    return ablations[dataset].ensemble.scores()["top1"]


def count_classes(ablations: AblationsByDataset, dataset: str) -> int:
    """Return the number of classes of a dataset."""
    return len(ablations[dataset].benchmark.classnames)


def menagerie_section() -> Section:
    """Show all kinds, with the unseen ones marked."""
    summary = (
        f"The {len(ALL_KINDS)} kinds: rows are animals, columns are coats. The {len(UNSEEN_KINDS)} kinds with a red "
        "frame were held out. Training contained these animals with other coats, and these coats on other animals, "
        "but never both together."
    )
    return Section("The drawn animals", summary, draw_contact_sheet(), "A grid of drawn animals in six coats.")


def kinds_section(ablations: AblationsByDataset) -> Section:
    """Compare accuracy on seen and unseen kinds."""
    unseen, seen = top1_score(ablations, "unseen-kinds"), top1_score(ablations, "seen-kinds")
    gap = 100 * (seen.value - unseen.value)
    summary = (
        f"Each image is compared with the names of all {len(ALL_KINDS)} kinds. The most similar name is the "
        f"prediction. Accuracy on unseen kinds is {format_percent(unseen.value)}, {abs(gap):.1f} points "
        f"{'lower' if gap > 0 else 'higher'} than on new images of seen kinds."
    )
    rows = {"seen kinds": seen, "unseen kinds": unseen}
    figure = plot_accuracy_bars(rows, chance=1 / len(ALL_KINDS), highlight="unseen kinds")
    return Section("Seen and unseen kinds", summary, figure)


def zebra_section(clip: Bundle, ablation: PromptAblation) -> Section:
    """Show some zebras with the highest-ranked descriptions."""
    benchmark, score = ablation.benchmark, ablation.ensemble.scores()["top1"]
    names = benchmark.classnames
    images = [
        _open_image(benchmark.source.read(index).image) for index in evenly_spaced(NUM_ZEBRAS, len(benchmark.source))
    ]
    predictions = clip.classify(images, names, benchmark.templates)
    summary = (
        f"No caption in training contained the word “zebra”, and no image showed a striped horse. Among {len(names)} "
        f"descriptions, the model ranks “{names[0]}” first for {format_percent(score.value)} of {score.n:,} images. "
        f"The figure shows {len(images)} of them and the three most probable descriptions of each."
    )
    return Section("The zebra", summary, plot_predictions(images, predictions, [names[0]] * len(images)))


def similarity_section(menagerie: MenageriePaths, clip: Bundle) -> Section:
    """Show the similarity matrix of a few training pairs."""
    source = open_source(str(menagerie.train_dir), DataConfig())
    records = [source.read(index) for index in evenly_spaced(NUM_MATRIX_PAIRS, len(source))]
    images = [_open_image(record.image) for record in records]
    captions = [record.captions[0] for record in records]
    scores_NN = (clip.encode_texts(captions) @ clip.encode_images(images).T).numpy()
    summary = (
        f"Cosine similarity between the captions (rows) and the images (columns) of {len(records)} training pairs. "
        "Training increases the similarity of matching pairs, which are outlined, relative to the other pairs in the "
        "same row and column."
    )
    return Section("What the loss compares", summary, plot_similarity_matrix(scores_NN, images, captions))


def prompts_section(ablations: AblationsByDataset) -> Section:
    """Compare the class name alone, one prompt and all prompts (CLIP §3.1.4)."""
    names = ("seen-kinds", "unseen-kinds", "zebra", *DEMO_LIMITATION_DATASETS[:3])
    scores = {
        name: (
            ablations[name].bare_name.scores()["top1"],
            ablations[name].one_prompt.scores()["top1"],
            top1_score(ablations, name),
        )
        for name in names
    }
    bare_name, one_prompt, all_prompts = (score.value for score in scores["unseen-kinds"])
    num_prompts = len(ablations["unseen-kinds"].benchmark.templates)
    summary = (
        f"A prompt puts the class name into a sentence. The model averages the embeddings of {num_prompts} prompts "
        f"per class. On unseen kinds, the class name alone gives {format_percent(bare_name)}. One prompt changes "
        f"accuracy by {100 * (one_prompt - bare_name):+.1f} points, all prompts by another "
        f"{100 * (all_prompts - one_prompt):+.1f}."
    )
    return Section("Effect of prompts", summary, plot_prompt_ablation(scores))


def limitations_section(ablations: AblationsByDataset) -> Section:
    """Plot accuracy on tasks that the paper lists as limitations (CLIP §6)."""
    rows = {
        name: (top1_score(ablations, name), 1 / count_classes(ablations, name)) for name in DEMO_LIMITATION_DATASETS
    }
    typed, handwritten = (rows[name][0].value for name in ("typed-digits", "handwritten-digits"))
    summary = (
        "The CLIP paper reports low accuracy on tasks like these. All but handwriting make up a small part of the "
        "training data here. Each line runs from chance to the accuracy of the model. Digits typed in fonts that "
        f"training did not use: {format_percent(typed)}. Handwritten digits, which resemble no training image: "
        f"{format_percent(handwritten)}."
    )
    return Section("Difficult tasks", summary, plot_limitations(rows))


def few_shot_section(probe_results: Mapping[str, ProbeResults]) -> Section:
    """Plot the accuracy of few-shot probes against zero-shot accuracy (CLIP Fig. 6)."""
    curves = {
        name: (
            {point.shots: point.mean_accuracy() for point in result.few_shot_results},
            zero_shot_result.scores()["top1"],
            1 / zero_shot_result.num_classes,
        )
        for name, result in probe_results.items()
        if (zero_shot_result := result.zero_shot_result)
    }
    efficiency = "; ".join(f"{name} {result.describe_data_efficiency()}" for name, result in probe_results.items())
    summary = (
        "A linear probe is a linear classifier that is trained on image features of the model. Here it gets a few "
        "labeled examples per class, in three random draws, and is tested on the other half of each dataset. "
        f"Examples per class at which it matches zero-shot accuracy: {efficiency}. A curve far above the zero-shot "
        "line shows information in the features that the text prompts do not reach."
    )
    return Section("Zero-shot against labeled examples", summary, plot_few_shot(curves))


def robustness_sections(shifts: Sequence[ShiftRobustness]) -> list[Section]:
    """Plot the final model against the line of its earlier checkpoints (CLIP Fig. 13)."""
    if not shifts:
        return []
    shift = shifts[-1]
    effective = shift.effective_robustness[FINAL_MODEL]
    figure = plot_robustness(
        {
            name: (score, shift.shifted_scores[name])
            for name, score in shift.standard_scores.items()
            if name != FINAL_MODEL
        },
        {FINAL_MODEL: (shift.standard_scores[FINAL_MODEL], shift.shifted_scores[FINAL_MODEL])},
        shift.line.predict,
        shift.line.confidence_band,
        "seen kinds",
        "sketch, inverted and noisy images (mean)",
    )
    summary = (
        "Each gray point is an earlier checkpoint of this run. Its position shows accuracy on seen kinds as they "
        "were drawn in training, and mean accuracy under the three renderings that were not in training. The line is "
        "fitted to these checkpoints. Effective robustness is the distance of the final model from the line: "
        f"{100 * effective.value:+.1f} points [{100 * effective.low:+.1f}, {100 * effective.high:+.1f}]."
    )
    return [Section("Effective robustness", summary, figure)]


def shifts_section(ablations: AblationsByDataset) -> Section:
    """Compare accuracy on seen kinds under different renderings."""
    rows = {name: top1_score(ablations, name) for name in RENDERING_DATASETS}
    worst = min(RENDERING_DATASETS[1:], key=lambda name: rows[name].value)
    summary = (
        "The seen kinds drawn as line sketches, with inverted colors, and with strong noise. Training contained none "
        f"of these renderings. Accuracy is lowest on “{worst}”: {format_percent(rows[worst].value)}."
    )
    return Section(
        "Other renderings of seen kinds", summary, plot_accuracy_bars(rows, chance=1 / len(ALL_KINDS), highlight=worst)
    )


def confusion_sections(ablation: PromptAblation) -> list[Section]:
    """Split the errors on unseen kinds into animals and coats, and list the most frequent ones."""
    label_N, predicted_N = ablation.ensemble.label_N, ablation.ensemble.ranked_NK[:, 0]
    animals = list(dict.fromkeys(animal for animal, _ in ALL_KINDS))
    coats = list(HELD_OUT_ANIMALS)
    animal_by_kind = np.array([animals.index(animal) for animal, _ in ALL_KINDS])
    coat_by_kind = np.array([coats.index(coat) for _, coat in ALL_KINDS])
    animal_accuracy, coat_accuracy = (
        float((table[label_N] == table[predicted_N]).mean()) for table in (animal_by_kind, coat_by_kind)
    )
    names = [kind_name(animal, coat) for animal, coat in ALL_KINDS]
    axes_note = "Rows: true; columns: predicted; in percent of the row."
    return [
        Section(
            "Predicted animal on unseen kinds",
            f"The predicted animal is correct for {format_percent(animal_accuracy)} of the images. {axes_note}",
            plot_confusion_matrix(
                confusion_matrix(animal_by_kind[predicted_N], animal_by_kind[label_N], len(animals)), animals
            ),
        ),
        Section(
            "Predicted coat on unseen kinds",
            f"The predicted coat is correct for {format_percent(coat_accuracy)} of the images. {axes_note}",
            plot_confusion_matrix(
                confusion_matrix(coat_by_kind[predicted_N], coat_by_kind[label_N], len(coats)), coats
            ),
        ),
        Section(
            "Errors on each unseen kind",
            "Accuracy and most frequent wrong prediction, lowest accuracy first.",
            build_confusion_table(label_N, predicted_N, names),
        ),
    ]


def build_confusion_table(
    label_N: NDArray[np.int64], predicted_N: NDArray[np.int64], classnames: Sequence[str]
) -> ReportTable:
    """List each true class with its accuracy and its most frequent wrong prediction, lowest accuracy first."""
    rows = []
    for index in np.unique(label_N).tolist():
        predicted_M = predicted_N[label_N == index]
        wrong = Counter(predicted_M[predicted_M != index].tolist()).most_common(1)
        error = f"{classnames[wrong[0][0]]} ({format_percent(wrong[0][1] / len(predicted_M), 0)})" if wrong else "none"
        rows.append((float((predicted_M == index).mean()), classnames[index], error))
    rows.sort()
    return ReportTable(
        ("kind", "accuracy", "most often confused with"),
        tuple((name, format_percent(accuracy, 0), error) for accuracy, name, error in rows),
    )


def _open_image(data: bytes) -> Image.Image:
    """Decode an image of the menagerie."""
    return Image.open(io.BytesIO(data)).convert("RGB")
