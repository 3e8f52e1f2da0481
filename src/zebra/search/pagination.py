"""The best rows of a query in; one page of them out, near duplicates folded into the best of their kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError
from zebra.values import Hit

REACH = 10_000
"""Best rows of a query that pages can show; who wants others narrows the query down."""
WIDER = 4
"""Times as many rows are looked at when duplicates left a page half empty."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The best rows of a query."""

    scores_M: NDArray[np.float64]
    """Cosines, best first."""
    vectors: Callable[[], NDArray[np.float32]]
    """Reads their unit vectors [M, E]."""
    rows: Callable[[Sequence[int], Sequence[str]], list[dict[str, Any]]]
    """Reads some columns of some of them, by their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which part of the answers is wanted."""

    k: int = 10
    offset: int = 0
    min_score: float | None = None
    fold: float | None = None
    """Cosine from which on a row counts as a duplicate of a better one; None keeps them all apart."""
    exclude: tuple[str, ...] = ()
    """Ids that are no answers."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.offset < 0:
            raise ConfigError(
                f"a page has at least one hit and begins at 0 or later, not {self.k} at {self.offset}"
            )
        if self.offset + self.k > REACH:
            raise ConfigError(
                f"pages end at the {REACH:,}th hit, and {self.offset:,} + {self.k:,} is beyond; narrow the search down "
                "by a filter or a least score"
            )
        for name, value in (("min_score", self.min_score), ("fold", self.fold)):
            if value is not None and not -1 <= value <= 1:
                raise ConfigError(f"{name} is a cosine from -1 to 1, not {value}")


def page(
    nearest: Callable[[int], Nearest], wish: Wish, columns: Sequence[str]
) -> tuple[tuple[Hit, ...], bool]:
    """Return the hits of a page, and whether there are more behind it.

    Args:
        nearest: Finds the best rows, as many as it is told or all there are.
        columns: Of the rows of hits; `id` is always among them.
    """
    needed = wish.offset + wish.k + 1
    count = min(needed + len(wish.exclude), REACH)
    while True:
        found = nearest(count)
        usable_U = _usable(found, wish)
        groups = _fold(found.vectors()[usable_U], wish.fold, needed) if wish.fold is not None else None
        heads = groups if groups is not None else [[number] for number in range(min(len(usable_U), needed))]
        ended = len(found.scores_M) < count or (
            wish.min_score is not None and found.scores_M[-1] < wish.min_score
        )
        if len(heads) >= needed or ended or count == REACH:
            break
        count = min(count * WIDER, REACH)
    shown = [[int(usable_U[number]) for number in group] for group in heads[wish.offset : needed - 1]]
    firsts = found.rows([group[0] for group in shown], list(dict.fromkeys(["id", *columns])))
    folded = iter(found.rows([number for group in shown for number in group[1:]], ["id"]))
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


def _usable(found: Nearest, wish: Wish) -> NDArray[np.int64]:
    """Return the numbers of the rows that may be hits."""
    enough_M = np.ones(len(found.scores_M), bool)
    if wish.min_score is not None:
        enough_M = found.scores_M >= wish.min_score
    if wish.exclude:
        excluded = set(wish.exclude)
        rows = found.rows(range(len(found.scores_M)), ["id"])
        enough_M &= np.array([row["id"] not in excluded for row in rows], bool)
    return np.flatnonzero(enough_M)


def _fold(vectors_UE: NDArray[np.float32], cosine: float, needed: int) -> list[list[int]]:
    """Return groups of rows, each the best of those left with all that are as near to it as `cosine`.

    Greedy: a row belongs to the best of the heads that it is near to, and heads are never near to each other. So what
    a group begins with does not depend on how many rows were looked at.
    """
    left_U = np.arange(len(vectors_UE))
    groups: list[list[int]] = []
    while len(left_U) and len(groups) < needed:
        near_U = vectors_UE[left_U] @ vectors_UE[left_U[0]] >= cosine
        near_U[0] = True  # whatever rounding says
        groups.append(left_U[near_U].tolist())
        left_U = left_U[~near_U]
    return groups
