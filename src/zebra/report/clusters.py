"""The self-contained HTML page of the clusters of a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zebra.report.image_groups import build_image_section
from zebra.report.page import Headline, ReportTable, Section, write_page
from zebra.report.style import format_percent
from zebra.store import Store

MAX_SECTIONS = 100
"""Most clusters with images on the page; the table has all."""


@dataclass(frozen=True, slots=True)
class ClusterSummary:
    """A cluster of images."""

    name: str
    words: tuple[str, ...]
    """Words that distinguish it from the others, best first."""
    size: int
    mean_cosine: float
    """Mean cosine of its images with its center."""
    num_outliers: int
    """Images far from its center, beyond Tukey's fence."""
    nearest: tuple[Mapping[str, Any], ...]
    """Id, path and caption of the images nearest to the center, nearest first."""
    nearest_positions: tuple[int, ...]
    """Their positions in the store when it was clustered."""
    nearest_cosines: tuple[float, ...]


def write_clusters_page(store: Store, clusters: Sequence[ClusterSummary], num_images: int, path: str) -> None:
    """Write a table of all clusters, and the images nearest to the center of each of the largest."""
    num_outliers = sum(cluster.num_outliers for cluster in clusters)
    headlines = [
        Headline(f"{num_images:,}", "images"),
        Headline(f"{len(clusters):,}", "cluster" if len(clusters) == 1 else "clusters"),
        Headline(format_percent(num_outliers / num_images), "far from their center", f"{num_outliers:,} images"),
    ]
    lead = "Images that the model finds similar, the largest cluster first, each with the images nearest to its center."
    if len(clusters) > MAX_SECTIONS:
        lead += f" Images are shown for the {MAX_SECTIONS} largest."
    sections = [_build_table(clusters, num_images)]
    sections += [_build_section(store, cluster, num_images) for cluster in clusters[:MAX_SECTIONS]]
    write_page(path, f"Clusters of {store.path.name}", lead, sections, headlines)


def _build_table(clusters: Sequence[ClusterSummary], num_images: int) -> Section:
    rows = tuple(
        (
            cluster.name,
            f"{cluster.size:,}",
            format_percent(cluster.size / num_images),
            f"{cluster.mean_cosine:.3f}",
            format_percent(cluster.num_outliers / cluster.size),
        )
        for cluster in clusters
    )
    summary = (
        "Cohesion is the mean cosine of the images with the center. An outlier is much farther from the center than "
        "the other images of its cluster (Tukey's fence for the logarithm of the distance)."
    )
    return Section("All clusters", summary, ReportTable(("name", "images", "share", "cohesion", "outliers"), rows))


def _build_section(store: Store, cluster: ClusterSummary, num_images: int) -> Section:
    summary = f"{cluster.size:,} images, {format_percent(cluster.size / num_images)} of all."
    if cluster.words:
        summary += f" Words: {', '.join(cluster.words)}."
    notes = [f"{cosine:.3f}" for cosine in cluster.nearest_cosines]
    return build_image_section(store, cluster.name, summary, cluster.nearest_positions, notes)
