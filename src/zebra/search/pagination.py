"""The best rows of a query in; one page of them out, near duplicates folded into the best of their kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.values import Hit

MAX_HITS = 10_000
"""Best rows of a query that pages can show; who wants others narrows the query down."""
EXPANSION_FACTOR = 4
"""Times as many rows are looked at when duplicates left a page half empty."""


@dataclass(frozen=True, slots=True)
class RankedRows:
    """The best rows of a query."""

    scores_M: NDArray[np.float64]
    """Cosines, best first."""
    read_vectors: Callable[[], NDArray[np.float32]]
    """Reads their unit vectors [M, E]."""
    read_rows: Callable[[Sequence[int], Sequence[str]], list[dict[str, Any]]]
    """Reads some columns of some of them, by their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which part of the answers is wanted."""

    k: int = 10
    offset: int = 0
    min_score: float | None = None
    dedup: float | None = None
    """Cosine from which on a row counts as a duplicate of a better one; None keeps them all apart."""
    exclude: tuple[str, ...] = ()
    """Ids that are no answers."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.offset < 0:
            raise ConfigError(
                f"a page has at least one hit and begins at 0 or later, not {self.k} at {self.offset}"
            )
        if self.offset + self.k > MAX_HITS:
            raise ConfigError(
                f"pages end at the {MAX_HITS:,}th hit, and {self.offset:,} + {self.k:,} is beyond; narrow the search down "
                "by a filter or a least score"
            )
        for name, value in (("min_score", self.min_score), ("dedup", self.dedup)):
            if value is not None and not -1 <= value <= 1:
                raise ConfigError(f"{name} is a cosine from -1 to 1, not {value}")


def build_page(
    search: Callable[[int], RankedRows], request: PageRequest, columns: Sequence[str]
) -> tuple[tuple[Hit, ...], bool]:
    """Return the hits of a page, and whether there are more behind it.

    Args:
        search: Finds the best rows, as many as it is told or all there are.
        columns: Of the rows of hits; `id` is always among them.
    """
    needed = request.offset + request.k + 1
    count = min(needed + len(request.exclude), MAX_HITS)
    while True:
        found = search(count)
        usable_U = _eligible_rows(found, request)
        groups = (
            _group_duplicates(found.read_vectors()[usable_U], request.dedup, needed)
            if request.dedup is not None
            else None
        )
        heads = groups if groups is not None else [[number] for number in range(min(len(usable_U), needed))]
        ended = len(found.scores_M) < count or (
            request.min_score is not None and found.scores_M[-1] < request.min_score
        )
        if len(heads) >= needed or ended or count == MAX_HITS:
            break
        count = min(count * EXPANSION_FACTOR, MAX_HITS)
    shown = [[int(usable_U[number]) for number in group] for group in heads[request.offset : needed - 1]]
    firsts = found.read_rows([group[0] for group in shown], list(dict.fromkeys(["id", *columns])))
    folded = iter(found.read_rows([number for group in shown for number in group[1:]], ["id"]))
    hits = tuple(
        Hit(
            row["id"],
            float(found.scores_M[group[0]]),
            row,
            tuple(str(next(folded)["id"]) for _ in group[1:]),
        )
        for group, row in zip(shown, firsts, strict=True)
    )
    return hits, len(heads) >= needed


def _eligible_rows(ranked: RankedRows, request: PageRequest) -> NDArray[np.int64]:
    """Return the numbers of the rows that may be hits."""
    enough_M = np.ones(len(ranked.scores_M), bool)
    if request.min_score is not None:
        enough_M = ranked.scores_M >= request.min_score
    if request.exclude:
        excluded = set(request.exclude)
        rows = ranked.read_rows(range(len(ranked.scores_M)), ["id"])
        enough_M &= np.array([row["id"] not in excluded for row in rows], bool)
    return np.flatnonzero(enough_M)


def _group_duplicates(vectors_UE: NDArray[np.float32], min_cosine: float, max_groups: int) -> list[list[int]]:
    """Return groups of rows, each the best of those left with all that are as near to it as `min_cosine`.

    Greedy: a row belongs to the best of the heads that it is near to, and heads are never near to each other. So what
    a group begins with does not depend on how many rows were looked at.
    """
    left_U = np.arange(len(vectors_UE))
    groups: list[list[int]] = []
    while len(left_U) and len(groups) < max_groups:
        near_U = vectors_UE[left_U] @ vectors_UE[left_U[0]] >= min_cosine
        near_U[0] = True  # whatever rounding says
        groups.append(left_U[near_U].tolist())
        left_U = left_U[~near_U]
    return groups
