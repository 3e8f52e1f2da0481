"""What to look for, in which store, and how."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """One search, or one for each line of a file."""

    store: str
    """A store that `zebra embed` made."""
    query: str = ""
    """What the pictures should show, in words; or the path of an image."""
    image: str = ""
    """The path of an image, to be searched for together with the words."""
    without: tuple[str, ...] = ()
    """What the pictures should not show, in words."""
    like: tuple[str, ...] = ()
    """Ids of rows whose pictures the answers should resemble."""
    queries: str = ""
    """A file with a query on each line, instead of one query."""
    k: int = 10
    """Hits to return."""
    offset: int = 0
    """Hits to leave out at the front: those of the pages before."""
    where: str = ""
    """A filter on columns, such as: width >= 640 and caption contains "dog"."""
    min_score: float | None = None
    """Least cosine of a hit."""
    dedup: float | None = None
    """Cosine from which on near duplicates are folded into the best of them, 0.95 for instance."""
    method: Literal["auto", "exact", "approximate"] = "auto"
    """auto searches exactly up to a million pictures, and above by the index if there is one."""
    model: str | None = None
    """The model that filled the store, if it is no longer where it was."""

    def __post_init__(self) -> None:
        alone = bool(self.queries)
        if alone and (self.query or self.image or self.like):
            raise ConfigError("a file of captions holds the queries: leave out the query, the image and like")
        if not (alone or self.query or self.image or self.like or self.without):
            raise ConfigError(
                "there is nothing to search for: give a text, an image, the id of a row, or captions"
            )
