"""Settings of `zebra outliers`."""

from dataclasses import dataclass

from zebra.config.row_table import require_row_table
from zebra.errors import ConfigError

NUM_NEIGHBORS, NUM_LABEL_NEIGHBORS = 10, 20
"""Default numbers of neighbors, for outliers and for label errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutliersConfig:
    """Settings for finding outliers or probable label errors among the images of a store."""

    store: str
    """A store written by `zebra embed`."""
    label: str = ""
    """A column with labels: find images whose neighbors have another label, instead of outliers."""
    k: int = 20
    """Number of images to list."""
    neighbors: int | None = None
    """Number of nearest images that an image is compared with; by default 10, and 20 with --label."""
    where: str = ""
    """A filter on columns, as for zebra search: compare only the images that match."""
    out: str = ""
    """Also write a row per image to this .csv or .parquet file."""
    column: str = ""
    """Also write the scores, or with --label the suggested labels, into this column of the store."""
    page: str = ""
    """Also write the listed images to this HTML file."""

    def __post_init__(self) -> None:
        if self.k < 1 or (self.neighbors is not None and self.neighbors < 1):
            raise ConfigError(f"-k and --neighbors must be at least 1; got {self.k} and {self.neighbors}")
        require_row_table(self.out)

    @property
    def num_neighbors(self) -> int:
        """Number of nearest images that an image is compared with."""
        return self.neighbors or (NUM_LABEL_NEIGHBORS if self.label else NUM_NEIGHBORS)
