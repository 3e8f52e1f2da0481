"""The example data of the cookbook and the notebooks: photos in class folders, and a table of captions."""

import csv
import shutil
from pathlib import Path

from PIL import Image

from zebra.menagerie.captions import write_caption
from zebra.menagerie.datasets import DRAWN_DATASETS
from zebra.menagerie.drawing import draw_image
from zebra.menagerie.rng import SampleRng

ANIMALS = ("horse", "elephant", "duck")
"""Class names, and names of the folders."""


def write_example_data(folder: Path, per_class: int) -> None:
    """Write what the introduction of docs/cookbook.md lists, with drawings of the menagerie for photos."""
    photos = folder / "photos"
    rows: list[tuple[str, str, int]] = []
    counts = dict.fromkeys(ANIMALS, 0)
    index = 0
    while min(counts.values()) < per_class:
        image, caption, animal = _draw(index)
        index += 1
        if counts.get(animal, per_class) < per_class:
            path = photos / animal / f"{counts[animal]:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=90)
            rows.append((path.relative_to(folder).as_posix(), caption, 1 + index % 5))
            counts[animal] += 1
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "caption", "stars"), *sorted(rows)])
    first = photos / "horse" / "000.jpg"
    shutil.copy(first, folder / "photo.jpg")
    Image.open(first).resize((72, 72)).save(photos / "horse" / "copy.jpg")
    (folder / "labels.txt").write_text("\n".join(ANIMALS) + "\n", encoding="utf-8")


def _draw(index: int) -> tuple[Image.Image, str, str]:
    """Return an image of the dataset of seen kinds, its caption and its animal."""
    rng = SampleRng(0, "seen-kinds", index)
    attributes, _ = DRAWN_DATASETS["seen-kinds"].sample(rng, index)
    return draw_image(attributes, rng), write_caption(attributes, rng), attributes.animal
