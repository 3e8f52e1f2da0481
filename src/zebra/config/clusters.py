"""Settings of `zebra clusters`."""

from dataclasses import dataclass
from typing import Literal

from zebra.config.row_table import require_row_table
from zebra.errors import ConfigError

MAX_CLUSTERS = 1000
CAPTION_WORDS = "captions"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClustersConfig:
    """Settings for clustering the images of a store and naming the clusters."""

    store: str
    """A store written by `zebra embed`."""
    num_clusters: int | Literal["auto"] = "auto"
    """Number of clusters, or auto: chosen by the silhouettes, at most 50."""
    words: str = ""
    """captions: names are words and phrases of the store's captions. FILE: names are lines of this text file, compared
    by the store's model. By default captions, where the store has some."""
    where: str = ""
    """A filter on columns, as for zebra search: cluster only the images that match."""
    out: str = ""
    """Also write a row per image (id, path, cluster, name, cosine, outlier) to this .csv or .parquet file."""
    column: str = ""
    """Also write the names into this column of the store, for filters and the map."""
    page: str = ""
    """Also write the clusters with images to this HTML file."""
    model: str | None = None
    """The model that embedded the store, if it has moved; names from a file need it."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        if self.num_clusters != "auto" and not 1 <= self.num_clusters <= MAX_CLUSTERS:
            raise ConfigError(f"--num-clusters is {self.num_clusters}; it must be auto, or from 1 to {MAX_CLUSTERS:,}")
        require_row_table(self.out)
