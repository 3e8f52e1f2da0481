"""Small stand-ins of datasets for retrieval of images by images, in their authors' layouts."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

COLORS = ((220, 30, 30), (30, 200, 40), (40, 60, 230))
GALLERY = {f"all_souls_{number:06d}": COLORS[number % 3] for number in range(7)}
QUERIES = {"all_souls_000013": (COLORS[0], COLORS[1]), "christ_church_000179": (COLORS[2], COLORS[0])}
"""Colors of the left and right halves; the boxes keep the left one."""
TRUTH = (
    {"easy": [1, 4], "hard": [7], "junk": [2], "bbx": [0.4, 0.0, 16.2, 32.0]},
    {"easy": [3, 6], "hard": [], "junk": [], "bbx": [0.0, 0.0, 16.0, 31.6]},
)


def write_image(path: Path, left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    """Write an image of 32 pixels with two colors."""
    pixels = np.empty((32, 32, 3), np.uint8)
    pixels[:, :16], pixels[:, 16:] = left, right
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def write_revisited(root: Path, name: str = "roxford5k") -> Path:
    """Write images and the ground truth of the revisited benchmarks; return its path."""
    for image, color in GALLERY.items():
        write_image(root / name / "jpg" / f"{image}.jpg", color, color)
    for image, halves in QUERIES.items():
        write_image(root / name / "jpg" / f"{image}.jpg", *halves)
    fields = ("bbx", "easy", "hard", "junk")
    gnd = np.empty((1, len(TRUTH)), dtype=[(field, object) for field in fields])
    for query, truth in enumerate(TRUTH):
        gnd[0, query] = tuple(np.array(truth[field], dtype=float).reshape(1, -1) for field in fields)
    cells = {
        key: np.array(list(names), dtype=object).reshape(-1, 1)
        for key, names in (("imlist", GALLERY), ("qimlist", QUERIES))
    }
    path = root / name / f"gnd_{name}.mat"
    savemat(path, cells | {"gnd": gnd})
    return path


def write_products(root: Path) -> Path:
    """Write Stanford Online Products with three products of two images in the test split; return the list."""
    lines = ["image_id class_id super_class_id path"]
    for number in range(6):
        file = f"chair_final/{111000 + number // 2}_{number % 2}.JPG"
        write_image(root / "Stanford_Online_Products" / file, COLORS[number // 2], COLORS[number // 2])
        lines.append(f"{59552 + number} {11319 + number // 2} 3 {file}")
    path = root / "Stanford_Online_Products" / "Ebay_test.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_birds(root: Path) -> Path:
    """Write CUB-200-2011 with four classes, two of them in the test split of metric learning; return the list."""
    lines = []
    for number, name in enumerate(("001.Black_footed_Albatross", "100.Brown_Pelican", "101.White_Pelican", "200.Wren")):
        for image in range(2):
            file = f"{name}/{name[4:]}_{image:04d}.jpg"
            write_image(root / "CUB_200_2011" / "images" / file, COLORS[number % 3], COLORS[number % 3])
            lines.append(f"{len(lines) + 1} {file}")
    path = root / "CUB_200_2011" / "images.txt"
    path.write_text("\n".join(lines) + "\n")
    return path
