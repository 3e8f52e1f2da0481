"""`zebra clusters`: group the images of a store, and name the groups."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zebra.config.clusters import CAPTION_WORDS, ClustersConfig
from zebra.embed.result_column import require_result_column, write_result_column
from zebra.errors import ConfigError
from zebra.pretrained.store_model import load_store_model
from zebra.report.clusters import ClusterSummary, write_clusters_page
from zebra.report.row_table import write_row_table
from zebra.search.cluster_names import ClusterWords, number_clusters, words_from_captions, words_from_vectors
from zebra.search.clustering import Clustering, cluster_vectors
from zebra.search.results import image_path
from zebra.search.selection import Selection, select_rows
from zebra.store import Store
from zebra.text.labels import read_labels, validate_labels

ROW_COLUMNS = ("id", "path", "location", "caption")
NUM_EXAMPLES = 12
"""Images of a cluster that are nearest to its center, for the page and the result."""


@dataclass(frozen=True, slots=True)
class ClustersResult:
    """Clusters of the images of a store, the largest first."""

    num_images: int
    clusters: tuple[ClusterSummary, ...]
    rows: pa.Table
    """A row per image: id, path, cluster (from 1 on), name, cosine, outlier."""
    notes: tuple[str, ...]
    """Warnings for the user."""


def run(config: ClustersConfig) -> ClustersResult:
    """Cluster the images of a store; write the table, the page and the column of the config.

    Raises:
        StoreError: The store is missing or damaged, or another process is writing to it.
        ConfigError: The filter is invalid or matches no image, there are fewer images than clusters, there is nothing
            to take names from, or the column cannot be written.
        WeightsError: Names are to be taken from a file, and the model of the store has moved or is damaged.
    """
    with Store.open(Path(config.store)) as store:
        require_result_column(store, config.column, pa.string())
        words = _read_words(config)
        selection = select_rows(store, config.where, ROW_COLUMNS)
        num_clusters = None if config.num_clusters == "auto" else config.num_clusters
        clustering = cluster_vectors(selection.vectors_NE, num_clusters)
        notes = []
        if num_clusters and len(clustering) < num_clusters:
            notes.append(f"only {len(clustering)} of {num_clusters} clusters have images: many vectors are equal")
        names, note = _name_clusters(config, store, selection, clustering, words)
        if note:
            notes.append(note)
        clusters, rows = _summarize(selection, clustering, names)
        if config.out:
            write_row_table(config.out, rows)
        if config.page:
            write_clusters_page(store, clusters, len(selection), config.page)
        if config.column:
            write_result_column(store, config.column, rows["id"].to_pylist(), rows["name"].combine_chunks())
        return ClustersResult(len(selection), clusters, rows, tuple(notes))


def _read_words(config: ClustersConfig) -> list[str]:
    if config.words in ("", CAPTION_WORDS):
        return []
    return validate_labels(read_labels(Path(config.words)))


def _name_clusters(
    config: ClustersConfig, store: Store, selection: Selection, clustering: Clustering, words: list[str]
) -> tuple[list[ClusterWords], str]:
    """Return a name per cluster, and a note."""
    if words:
        clip = load_store_model(
            store.path, store.metadata.model, store.metadata.dimensions, model=config.model, device=config.device
        )
        store.require_fingerprint(clip.fingerprint)
        return words_from_vectors(words, clip.encode_texts(words).numpy(), clustering.centers_KE), ""
    captions = selection.rows["caption"].to_pylist()
    if any(captions):
        return words_from_captions(captions, clustering.cluster_N, len(clustering)), ""
    if config.words == CAPTION_WORDS:
        raise ConfigError(
            f"no image of {store.path} has a caption to take names from. Give a file with a word or phrase per line: "
            "--words FILE"
        )
    return number_clusters(len(clustering)), "there are no captions to take names from; give words with --words FILE"


def _summarize(
    selection: Selection, clustering: Clustering, names: list[ClusterWords]
) -> tuple[tuple[ClusterSummary, ...], pa.Table]:
    is_outlier_N = clustering.find_outliers()
    clusters = []
    for cluster, words in enumerate(names):
        row_M = np.flatnonzero(clustering.cluster_N == cluster)
        cosine_M = clustering.cosine_N[row_M]
        nearest_M = row_M[np.argsort(-cosine_M, kind="stable")[:NUM_EXAMPLES]]
        clusters.append(
            ClusterSummary(
                words.name,
                words.words,
                size=len(row_M),
                mean_cosine=float(cosine_M.mean()),
                num_outliers=int(is_outlier_N[row_M].sum()),
                nearest=tuple(map(_describe_row, selection.rows.take(pa.array(nearest_M)).to_pylist())),
                nearest_positions=tuple(selection.positions_N[nearest_M].tolist()),
                nearest_cosines=tuple(clustering.cosine_N[nearest_M].tolist()),
            )
        )
    rows = pa.table(
        {
            "id": selection.rows["id"],
            "path": [image_path(row) for row in selection.rows.to_pylist()],
            "cluster": pa.array(clustering.cluster_N + 1),
            "name": pa.array([names[cluster].name for cluster in clustering.cluster_N.tolist()], pa.string()),
            "cosine": pa.array(clustering.cosine_N),
            "outlier": pa.array(is_outlier_N),
        }
    )
    return tuple(clusters), rows


def _describe_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "path": image_path(row), "caption": row["caption"]}
