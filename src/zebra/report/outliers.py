"""The self-contained HTML page of outliers or probable label errors."""

from collections.abc import Sequence
from dataclasses import dataclass

from zebra.report.image_groups import build_image_section
from zebra.report.page import Headline, write_page
from zebra.report.style import format_percent
from zebra.store import Store


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An outlier, or an image whose label is improbable."""

    position: int
    """Position in the store when it was read."""
    id: str
    path: str
    caption: str | None
    score: float
    """Mean distance to the neighbors; with labels, the share of neighbors with the suggested label, less that with the
    label of the image."""
    is_outlier: bool = False
    label: str | None = None
    suggested: str | None = None


def write_outliers_page(
    store: Store, images: Sequence[FoundImage], num_images: int, num_found: int, label: str, path: str
) -> None:
    """Write the images with their scores, or with their labels and the suggested ones.

    Args:
        num_images: Images that were compared.
        num_found: Outliers or probable errors among them.
        label: The column with labels; "" for outliers.
    """
    name = store.path.name
    kind = "probable label errors" if label else "outliers"
    headlines = [
        Headline(f"{num_images:,}", "images compared"),
        Headline(f"{num_found:,}", kind, format_percent(num_found / num_images)),
    ]
    positions = [image.position for image in images]
    if label:
        title, lead = f"Label errors of {name}", f"Images whose neighbors have another value of {label}, surest first."
        summary = "Under each image: its label and the one that its neighbors suggest."
        notes = [f"{image.label} → {image.suggested}" for image in images]
    else:
        title, lead = f"Outliers of {name}", "Images that resemble no others, most unlike first."
        summary = (
            "Under each image: its mean distance (1 − cosine) to its nearest images, near copies left out. Outliers "
            "are beyond Tukey's fence for the logarithm of this distance."
        )
        notes = [f"{image.score:.3f}" + ("" if image.is_outlier else ", no outlier") for image in images]
    heading = f"The first {len(images):,}"
    section = build_image_section(store, heading, summary, positions, notes)
    write_page(path, title, lead, [section] if images else [], headlines)
