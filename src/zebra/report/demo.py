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
from zebra.evaluators.linear_probe import Probed
from zebra.evaluators.zero_shot import Rungs
from zebra.menagerie.contact_sheet import contact_sheet
from zebra.menagerie.splits import HELD_OUT, KINDS, UNSEEN, kind_name
from zebra.menagerie.write import World
from zebra.pretrained.bundle import Bundle
from zebra.protocols.metrics import confusion
from zebra.protocols.robustness import Shift
from zebra.report.figures import accuracy_bars, limits, prompt_ladder
from zebra.report.figures import confusion as confusion_figure
from zebra.report.image_figures import gallery, similarity_matrix
from zebra.report.page import Headline, Section, Table, write_page
from zebra.report.study_figures import few_shot, robustness
from zebra.report.style import percent
from zebra.report.training import data_section, training_section
from zebra.train.metrics_logger import read_journal
from zebra.train.run_dir import RunFolder
from zebra.values import Score
from zebra.workflows.demo_studies import FINAL

Outcomes = Mapping[str, Rungs]

ABILITIES = ("counting", "distance", "fine-grained", "typed-digits", "handwritten-digits")
SHIFTS = ("seen-kinds", "sketch", "inverted", "noisy")
BATCH = 10
"""Pairs of the similarity matrix: as many as can be read."""


def write_demo_page(
    folder: RunFolder,
    world: World,
    clip: Bundle,
    outcomes: Outcomes,
    probed: Mapping[str, Probed],
    shifts: Sequence[Shift],
) -> None:
    """Compose and write the page."""
    journal = read_journal(folder.journal)
    counts = json.loads(folder.data.read_text(encoding="utf-8"))
    unseen, seen, zebra = (top1(outcomes, name) for name in ("unseen-kinds", "seen-kinds", "zebra"))
    headlines = [
        Headline(percent(unseen.value), "kinds never seen", f"chance {percent(1 / len(KINDS))}"),
        Headline(percent(seen.value), "kinds of the training set", "new pictures of them"),
        Headline(
            percent(zebra.value), "zebras found", f"by a description, among {classes(outcomes, 'zebra')}"
        ),
        Headline(
            f"{journal[-1]['samples']:,}", "pairs seen in training", f"{counts['found']:,} different ones"
        ),
    ]
    sections = [
        world_section(),
        kinds_section(outcomes),
        zebra_section(clip, outcomes["zebra"]),
        training_section(journal, highlight="unseen-kinds"),
        similarity_section(world, clip),
        prompts_section(outcomes),
        limits_section(outcomes),
        few_shot_section(probed),
        shifts_section(outcomes),
        *robustness_sections(shifts),
        *confusion_sections(outcomes["unseen-kinds"]),
        data_section(counts),
    ]
    lead = (
        "A small CLIP was trained on drawn animals with captions. A fifth of the combinations of animal and coat, the "
        "striped horse among them, never occurred in a picture or a caption. This page shows what it recognises by "
        "words alone, and where it fails."
    )
    write_page(folder.report, "The zebra it had never seen", lead, sections, headlines)


def top1(outcomes: Outcomes, name: str) -> Score:
    """Return the top-1 accuracy of a set with all its prompts."""
    return outcomes[name].ensemble.scores()["top1"]


def classes(outcomes: Outcomes, name: str) -> int:
    """Count the classes of a set."""
    return len(outcomes[name].benchmark.classnames)


def world_section() -> Section:
    """Show every kind, the held-out ones marked."""
    reading = (
        f"{len(KINDS)} kinds: each row an animal, each column a coat. The {len(UNSEEN)} framed in red were held out: "
        "training saw those animals in other coats and those coats on other animals, never together."
    )
    return Section("The menagerie", reading, contact_sheet(), "A grid of drawn animals in six coats.")


def kinds_section(outcomes: Outcomes) -> Section:
    """Compare seen and unseen kinds, and the zebra."""
    unseen, seen = top1(outcomes, "unseen-kinds"), top1(outcomes, "seen-kinds")
    gap = 100 * (seen.value - unseen.value)
    reading = (
        f"Each picture is compared with the names of all {len(KINDS)} kinds. Kinds that training never showed are "
        f"recognised {percent(unseen.value)} of the time, {abs(gap):.1f} points "
        f"{'less' if gap > 0 else 'more'} than new pictures of known kinds. Lines are 95 % intervals."
    )
    rows = {"seen kinds": seen, "unseen kinds": unseen}
    figure = accuracy_bars(rows, chance=1 / len(KINDS), highlight="unseen kinds")
    return Section("Known parts, new combinations", reading, figure)


def zebra_section(clip: Bundle, outcome: Rungs) -> Section:
    """Show some zebras with the descriptions that the model ranks first."""
    names = outcome.benchmark.classnames
    chosen = np.linspace(0, len(outcome.benchmark.source) - 1, 6).astype(int).tolist()
    pictures = [open_picture(outcome.benchmark.source.read(index).image) for index in chosen]
    ranked = clip.classify(pictures, names, outcome.benchmark.templates)
    score = outcome.ensemble.scores()["top1"]
    reading = (
        f"No caption ever held the word “zebra” and no picture a striped horse. Among {len(names)} descriptions, "
        f"“{names[0]}” comes first for {percent(score.value)} of {score.n:,} pictures; six of them, evenly spaced."
    )
    return Section("The zebra", reading, gallery(pictures, ranked, [names[0]] * len(pictures)))


def similarity_section(world: World, clip: Bundle) -> Section:
    """Show what training maximises: the diagonal of a batch's similarities."""
    source = open_source(str(world.train), DataConfig())
    records = [source.read(index) for index in np.linspace(0, len(source) - 1, BATCH).astype(int).tolist()]
    pictures, captions = [open_picture(record.image) for record in records], [r.captions[0] for r in records]
    scores_NN = (clip.encode_texts(captions) @ clip.encode_images(pictures).T).numpy()
    reading = (
        "Cosine similarity of every caption (rows) with every picture (columns) of a small training batch. Training "
        "raises the outlined diagonal against the rest of its row and column."
    )
    return Section(
        "One batch, as the loss sees it", reading, similarity_matrix(scores_NN, pictures, captions)
    )


def prompts_section(outcomes: Outcomes) -> Section:
    """Compare the bare name, one prompt, and the ensemble in embedding space."""
    names = ("seen-kinds", "unseen-kinds", "zebra", *ABILITIES[:3])
    ladders = {
        name: (
            outcomes[name].bare_name.scores()["top1"],
            outcomes[name].one_prompt.scores()["top1"],
            top1(outcomes, name),
        )
        for name in names
    }
    bare, one, every = (score.value for score in ladders["unseen-kinds"])
    prompts = len(outcomes["unseen-kinds"].benchmark.templates)
    reading = (
        f"Each class vector is the mean of {prompts} phrasings. On unseen kinds "
        f"the bare name gives {percent(bare)}, one prompt {100 * (one - bare):+.1f} points, all of them "
        f"{100 * (every - one):+.1f} more."
    )
    return Section("The bare name, one prompt, many", reading, prompt_ladder(ladders))


def limits_section(outcomes: Outcomes) -> Section:
    """Report the paper's limitations as they are found here (CLIP §6)."""
    rows = {name: (top1(outcomes, name), 1 / classes(outcomes, name)) for name in ABILITIES}
    typed, hand = top1(outcomes, "typed-digits").value, top1(outcomes, "handwritten-digits").value
    reading = (
        "Each of these was shown to the model in a small part of its training, except handwriting. The bar runs from "
        f"chance to its accuracy. Numbers typed in fonts it never saw: {percent(typed)}; handwritten ones, which look "
        f"like nothing it was trained on: {percent(hand)}."
    )
    return Section("What is hard for it", reading, limits(rows))


def few_shot_section(probed: Mapping[str, Probed]) -> Section:
    """Draw the probe's accuracy with a few examples per class, and zero-shot's beside it (CLIP Fig. 6)."""
    curves = {
        name: (
            {point.shots: point.mean().score for point in study.few},
            study.zero_shot.scores()["top1"],
            1 / study.zero_shot.classes,
        )
        for name, study in probed.items()
    }
    needed = "; ".join(f"{name} {study.efficiency()}" for name, study in probed.items())
    reading = (
        "The same abilities with labelled examples instead of words: a linear probe on the model's features, three "
        f"draws each, judged on the other half of each set. Examples per class that equal words alone: {needed}. Where "
        "the curve rises far above the line, the features know what the words do not reach."
    )
    return Section("Words against examples", reading, few_shot(curves))


def robustness_sections(shifts: Sequence[Shift]) -> list[Section]:
    """Draw the final model against the line of its own earlier checkpoints (CLIP Fig. 13)."""
    if not shifts:
        return []
    shift = shifts[-1]
    height = shift.effective[FINAL]
    figure = robustness(
        {name: (shift.standard[name], shift.shifted[name]) for name in shift.standard if name != FINAL},
        {FINAL: (shift.standard[FINAL], shift.shifted[FINAL])},
        shift.line.at,
        shift.line.band,
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


def shifts_section(outcomes: Outcomes) -> Section:
    """Compare the known kinds under other renderings."""
    rows = {name: top1(outcomes, name) for name in SHIFTS}
    worst = min(SHIFTS[1:], key=lambda name: rows[name].value)
    reading = (
        "The same known kinds drawn as line sketches, with inverted colours, and under heavy noise; training saw none "
        f"of these. The hardest is “{worst}” with {percent(rows[worst].value)}."
    )
    return Section(
        "Other renderings of known kinds",
        reading,
        accuracy_bars(rows, chance=1 / len(KINDS), highlight=worst),
    )


def confusion_sections(outcome: Rungs) -> list[Section]:
    """Split the mistakes on unseen kinds into animals and coats, and name the most frequent ones."""
    truth, guess = outcome.ensemble.label_N, outcome.ensemble.ranked_NK[:, 0]
    animals = list(dict.fromkeys(animal for animal, _ in KINDS))
    coats = list(HELD_OUT)
    animal_of = np.array([animals.index(animal) for animal, _ in KINDS])
    coat_of = np.array([coats.index(coat) for _, coat in KINDS])
    right = [float((table[truth] == table[guess]).mean()) for table in (animal_of, coat_of)]
    names = [kind_name(animal, coat) for animal, coat in KINDS]
    return [
        Section(
            "Which animal it says, on unseen kinds",
            f"The animal alone is right {percent(right[0])} of the time. Rows are true, columns said, in per cent.",
            confusion_figure(confusion(animal_of[guess], animal_of[truth], len(animals)), animals),
        ),
        Section(
            "Which coat it says, on unseen kinds",
            f"The coat alone is right {percent(right[1])} of the time.",
            confusion_figure(confusion(coat_of[guess], coat_of[truth], len(coats)), coats),
        ),
        Section(
            "Every unseen kind, and what it is taken for",
            "Accuracy of each held-out kind and its most frequent wrong answer.",
            kind_table(truth, guess, names),
        ),
    ]


def kind_table(truth: NDArray[np.int64], guess: NDArray[np.int64], names: Sequence[str]) -> Table:
    """List each true class with its accuracy and its most frequent wrong answer, worst first."""
    rows = []
    for index in np.unique(truth).tolist():
        said = guess[truth == index]
        wrong = Counter(said[said != index].tolist()).most_common(1)
        mistake = f"{names[wrong[0][0]]} ({percent(wrong[0][1] / len(said), 0)})" if wrong else "none"
        rows.append((float((said == index).mean()), names[index], mistake))
    rows.sort()
    return Table(
        ("kind", "recognised", "most often taken for"),
        tuple((name, percent(share, 0), mistake) for share, name, mistake in rows),
    )


def open_picture(data: bytes) -> Image.Image:
    """Decode one of the world's own pictures."""
    return Image.open(io.BytesIO(data)).convert("RGB")
