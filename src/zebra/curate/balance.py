"""Balancing of pairs by the entries that they match (CLIP §2.2).

The rule is MetaCLIP's (arXiv 2309.16671, §3.3). An entry with more than t pairs keeps each of them with the
probability t / count. A pair stays if any of its entries keeps it, that is with the probability 1 − Π(1 − p). The
draw is a hash of the seed and the pair's uid: it does not depend on the order of the pool, and a larger pool changes
earlier decisions only through p.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.curate.match import EntryMatcher
from zebra.curate.rules import PoolRule, Rule

STAGE = "balance"
BISECTION_STEPS = 60


@dataclass(frozen=True, slots=True)
class Matches:
    """The entries of N pairs."""

    num_pairs: int
    row_M: NDArray[np.int64]
    entry_M: NDArray[np.int64]

    def keep_probability(self, probability_E: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1 − Π(1 − p) over the entries of each pair, [N]; 0 for a pair without entries."""
        with np.errstate(divide="ignore"):
            log_M = np.log1p(-probability_E[self.entry_M])  # −∞ for p = 1
        total_N = np.zeros(self.num_pairs)
        np.add.at(total_N, self.row_M, log_M)
        return -np.expm1(total_N)


def balance_rules(matcher: EntryMatcher, *, max_per_entry: float | None, keep: int | None, seed: int) -> list[Rule]:
    """Return the rules that drop pairs without an entry and balance the others.

    Args:
        max_per_entry: The t of the rule: an entry with fewer pairs keeps all of them. None for no limit.
        keep: The expected number of pairs to keep, from which t is computed; None takes max_per_entry.
        seed: Seed of the draw.
    """
    rules: list[Rule] = [
        PoolRule(
            "match",
            "no entry in the caption",
            ("text",),
            lambda read: (_has_no_entry(_match(matcher, table)) for table in read()),
        )
    ]
    if keep is not None or max_per_entry is not None:
        rules.append(
            PoolRule(
                STAGE,
                "not drawn by any of its entries",
                ("uid", "text"),
                lambda read: _find_not_drawn(matcher, read, max_per_entry, keep, seed),
            )
        )
    return rules


def choose_limit(matches: Iterable[Matches], count_E: NDArray[np.int64], keep: int) -> float:
    """Return the t at which the expected number of kept pairs is `keep`, by bisection; the largest count at most."""
    all_matches = list(matches)
    low, high = 0.0, float(count_E.max(initial=1))
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        probability_E = entry_probability(count_E, middle)
        expected = sum(part.keep_probability(probability_E).sum() for part in all_matches)
        low, high = (middle, high) if expected < keep else (low, middle)
    return high


def entry_probability(count_E: NDArray[np.int64], limit: float) -> NDArray[np.float64]:
    """Return the probability min(1, t / count) of each entry."""
    return np.minimum(1.0, limit / np.maximum(count_E, 1))


def draw_uniform(uid: pa.ChunkedArray | pa.Array, seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each uid and the seed, by the finalizer of SplitMix64 (Steele et al. 2014)."""
    blocks = [np.frombuffer(chunk, np.uint64).reshape(-1, 2) for chunk in _uid_buffers(uid)]
    x_N = np.concatenate([block[:, 0] for block in blocks]) if blocks else np.zeros(0, np.uint64)
    x_N = x_N ^ np.uint64((seed * 0x9E3779B97F4A7C15) % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x_N = (x_N ^ (x_N >> np.uint64(shift))) * np.uint64(factor)
    x_N ^= x_N >> np.uint64(31)
    return (x_N >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _uid_buffers(uid: pa.ChunkedArray | pa.Array) -> Iterator[bytes]:
    for chunk in uid.chunks if isinstance(uid, pa.ChunkedArray) else [uid]:
        yield b"".join(chunk.to_pylist())


def _match(matcher: EntryMatcher, table: pa.Table) -> Matches:
    return Matches(len(table), *matcher.match(table["text"]))


def _has_no_entry(matches: Matches) -> NDArray[np.bool_]:
    has_entry_N = np.zeros(matches.num_pairs, np.bool_)
    has_entry_N[matches.row_M] = True
    return ~has_entry_N


def _find_not_drawn(
    matcher: EntryMatcher,
    read: Callable[[], Iterable[pa.Table]],
    max_per_entry: float | None,
    keep: int | None,
    seed: int,
) -> Iterator[NDArray[np.bool_]]:
    tables = [(draw_uniform(table["uid"], seed), _match(matcher, table)) for table in read()]
    count_E = np.zeros(len(matcher.entries), np.int64)
    for _, matches in tables:
        count_E += np.bincount(matches.entry_M, minlength=len(count_E))
    limit = max_per_entry
    if keep is not None:
        limit = choose_limit((matches for _, matches in tables), count_E, keep)
    assert limit is not None
    probability_E = entry_probability(count_E, limit)
    for uniform_N, matches in tables:
        yield uniform_N >= matches.keep_probability(probability_E)
