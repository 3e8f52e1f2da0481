"""Settings of `zebra search`."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Settings of one search, or of one search per line of a file."""

    store: str
    """A store written by `zebra embed`."""
    query: str = ""
    """A text, or the path of an image."""
    image: str = ""
    """The path of an image, combined with the text query."""
    without: tuple[str, ...] = ()
    """Texts that the images should not match."""
    like: tuple[str, ...] = ()
    """Ids of rows that the results should resemble."""
    queries: str = ""
    """A file with one text query per line, instead of a single query."""
    k: int = 10
    """Number of hits to return."""
    offset: int = 0
    """Number of hits to skip, for paging."""
    where: str = ""
    """A filter on columns, for example: width >= 640 and caption contains "dog". Without a query, lists the rows."""
    min_score: float | None = None
    """Minimum cosine of a hit."""
    dedup: float | None = None
    """Merge near duplicates above this cosine into the best hit, for example 0.95."""
    method: Literal["auto", "exact", "approximate"] = "auto"
    """auto searches exactly up to a million images, and above that by the index if there is one."""
    dimensions: int | None = None
    """Compare shorter vectors, which takes less memory: of a size that the model was trained for, or any size after
    --pca."""
    model: str | None = None
    """The model that embedded the store, if it has moved."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        has_file = bool(self.queries)
        if has_file and (self.query or self.image or self.like):
            raise ConfigError("--queries excludes the query, --image and --like; give one or the other")
        if not (self.has_query or self.where):
            raise ConfigError("nothing to search for; give a text, --image, --like, --queries or --where")
        if not self.has_query and (self.min_score is not None or self.dedup is not None):
            raise ConfigError("--min-score and --dedup need something to search for; give a text, --image or --like")

    @property
    def has_query(self) -> bool:
        """Whether there is anything to search for besides a filter."""
        return bool(self.query or self.image or self.like or self.queries or self.without)
