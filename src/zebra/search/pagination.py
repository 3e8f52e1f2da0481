"""Pages of search hits, with near duplicates grouped under their best hit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.values import Hit

MAX_HITS = 10_000
"""Number of best rows that pages can reach."""
EXPANSION_FACTOR = 4
"""Factor by which the number of searched rows grows while a page is not full."""


@dataclass(frozen=True, slots=True)
class RankedRows:
    """The best rows of a query, by rank."""

    scores_M: NDArray[np.float64]
    """Cosines, best first."""
    read_vectors: Callable[[], NDArray[np.float32]]
    """Returns their unit vectors [M, E]."""
    read_rows: Callable[[Sequence[int], Sequence[str]], list[dict[str, Any]]]
    """Reads columns of some of them, by rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Options of one page of hits."""

    k: int = 10
    offset: int = 0
    min_score: float | None = None
    dedup: float | None = None
    """Cosine from which a row is a duplicate of a better one; None disables deduplication."""
    exclude: tuple[str, ...] = ()
    """Ids that are never hits."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.offset < 0:
            raise ConfigError(f"k must be at least 1 and offset at least 0; got k={self.k}, offset={self.offset}")
        if self.offset + self.k > MAX_HITS:
            raise ConfigError(
                f"offset + k must be at most {MAX_HITS:,}; got {self.offset:,} + {self.k:,}. Narrow the search by a "
                "filter or a minimum score"
            )
        for name, value in (("min_score", self.min_score), ("dedup", self.dedup)):
            if value is not None and not -1 <= value <= 1:
                raise ConfigError(f"{name} must be a cosine from -1 to 1; got {value}")


def build_page(
    search: Callable[[int], RankedRows], request: PageRequest, columns: Sequence[str]
) -> tuple[tuple[Hit, ...], bool]:
    """Return the hits of a page, and whether there are more after it.

    Args:
        search: Returns the given number of best rows, or all if there are fewer.
        columns: Columns of the hits' rows; `id` is always added.
    """
    num_needed = request.offset + request.k + 1
    count = min(num_needed + len(request.exclude), MAX_HITS)
    while True:
        ranked = search(count)
        eligible_U = _eligible_rows(ranked, request)
        groups = (
            _group_duplicates(ranked.read_vectors()[eligible_U], request.dedup, num_needed)
            if request.dedup is not None
            else [[index] for index in range(min(len(eligible_U), num_needed))]
        )
        is_exhausted = len(ranked.scores_M) < count or (
            request.min_score is not None and ranked.scores_M[-1] < request.min_score
        )
        if len(groups) >= num_needed or is_exhausted or count == MAX_HITS:
            break
        count = min(count * EXPANSION_FACTOR, MAX_HITS)
    page = [[int(eligible_U[index]) for index in group] for group in groups[request.offset : num_needed - 1]]
    rows = ranked.read_rows([group[0] for group in page], list(dict.fromkeys(["id", *columns])))
    duplicates = iter(ranked.read_rows([rank for group in page for rank in group[1:]], ["id"]))
    hits = tuple(
        Hit(row["id"], float(ranked.scores_M[group[0]]), row, tuple(str(next(duplicates)["id"]) for _ in group[1:]))
        for group, row in zip(page, rows, strict=True)
    )
    return hits, len(groups) >= num_needed


def _eligible_rows(ranked: RankedRows, request: PageRequest) -> NDArray[np.int64]:
    """Return the ranks of the rows that may be hits."""
    eligible_M = np.ones(len(ranked.scores_M), bool)
    if request.min_score is not None:
        eligible_M = ranked.scores_M >= request.min_score
    if request.exclude:
        excluded = set(request.exclude)
        rows = ranked.read_rows(range(len(ranked.scores_M)), ["id"])
        eligible_M &= np.array([row["id"] not in excluded for row in rows], bool)
    return np.flatnonzero(eligible_M)


def _group_duplicates(vectors_UE: NDArray[np.float32], min_cosine: float, max_groups: int) -> list[list[int]]:
    """Group rows greedily: the best remaining row with all remaining rows of at least `min_cosine` to it.

    A row belongs to the best first row that it is near to, and first rows are never near to each other. So the first
    rows do not depend on how many rows were searched.
    """
    remaining_U = np.arange(len(vectors_UE))
    groups: list[list[int]] = []
    while len(remaining_U) and len(groups) < max_groups:
        near_U = vectors_UE[remaining_U] @ vectors_UE[remaining_U[0]] >= min_cosine
        near_U[0] = True  # despite rounding
        groups.append(remaining_U[near_U].tolist())
        remaining_U = remaining_U[~near_U]
    return groups
