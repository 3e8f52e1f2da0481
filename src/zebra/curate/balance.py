"""Balancing of pairs by the entries that they match (CLIP §2.2).

The rule is MetaCLIP's (arXiv 2309.16671, §3.3). An entry with more than t pairs keeps each of them with the
probability t / count. A pair stays if any of its entries keeps it, that is with the probability 1 − Π(1 − p). The
draw is a hash of the seed and the pair's uid: it does not depend on the order of the pool, and a larger pool changes
earlier decisions only through p.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from hashlib import sha256
from math import exp, log
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import brentq

from zebra.curate.match import EntryMatcher
from zebra.curate.measurements import Measurement
from zebra.curate.partitions import as_integers
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PairRule, PoolReader, PoolRule

STAGE = "balance"
MATCH_VERSION = 1
"""Changes when an entry may match other captions."""
MATCH_SCHEMA = pa.schema({"entries": pa.list_(pa.int32())})
PROBABILITY_UNIT = 2.0**-40


def match_stages(matcher: EntryMatcher) -> list[Stage]:
    """Return the stages that find the entries of captions and drop pairs without one."""
    digest = sha256("\n".join(matcher.entries).encode()).hexdigest()
    match = partial(_match, matcher)
    return [
        Measurement("match", f"{MATCH_VERSION} {digest}", ("text",), MATCH_SCHEMA, match, is_parallel=True),
        PairRule("match", "no entry in the caption", ("entries",), _has_no_entry),
    ]


def balance_rules(matcher: EntryMatcher, max_per_entry: float | None, keep: int | None, seed: int) -> list[Stage]:
    """Return the rule that balances pairs by the entries that `match_stages` found; none without a limit.

    Args:
        max_per_entry: The t of the rule: an entry with fewer pairs keeps all of them. None for no limit.
        keep: The expected number of pairs to keep, from which t is computed; None takes max_per_entry.
        seed: Seed of the draw.
    """
    if keep is None and max_per_entry is None:
        return []
    find = partial(_find_not_drawn, num_entries=len(matcher.entries), max_per_entry=max_per_entry, keep=keep, seed=seed)
    return [PoolRule(STAGE, "not drawn by any of its entries", ("uid", "entries"), find)]


def keep_probability(entries: pa.ListArray, probability_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 − Π(1 − p) over the entries of each pair, [N]; 0 for a pair without entries."""
    with np.errstate(divide="ignore"):
        log_E = np.log1p(-probability_E)  # −∞ for p = 1
    row_M = entries.value_parent_indices().to_numpy()
    return -np.expm1(np.bincount(row_M, log_E[entries.flatten().to_numpy()], len(entries)))


def choose_limit(count_expected: Callable[[float], float], num_entries: int, max_limit: float, keep: int) -> float:
    """Return the t with `keep` expected pairs; max_limit at most.

    Args:
        count_expected: Returns the expected number of pairs for a t; it takes a pass over the pool.
        num_entries: Number of entries, each of which keeps t pairs at most.
    """
    if count_expected(max_limit) <= keep:
        return max_limit

    def excess(log_limit: float) -> float:
        return log(count_expected(exp(log_limit)) / keep)

    # The number is about a power of t, so that few steps in logarithms are enough.
    low, high = log(keep / (2 * num_entries)), log(max_limit)
    return exp(brentq(cache(excess), low, high, xtol=1e-13, rtol=1e-13))


def entry_probability(count_E: NDArray[np.int64], limit: float) -> NDArray[np.float64]:
    """Return the probability min(1, t / count) of each entry."""
    return np.minimum(1.0, limit / np.maximum(count_E, 1))


def draw_uniform(uid: pa.ChunkedArray | pa.Array, seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each uid and the seed, by the finalizer of SplitMix64 (Steele et al. 2014)."""
    x_N = as_integers(uid)[:, 0]
    x_N = x_N ^ np.uint64((seed * 0x9E3779B97F4A7C15) % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x_N = (x_N ^ (x_N >> np.uint64(shift))) * np.uint64(factor)
    x_N ^= x_N >> np.uint64(31)
    return (x_N >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _match(matcher: EntryMatcher, table: pa.Table) -> pa.Table:
    """Return the entries of each caption as numbers, sorted."""
    row_M, entry_M = matcher.match(table["text"])
    offsets = np.searchsorted(row_M, np.arange(len(table) + 1)).astype(np.int32)
    return pa.table({"entries": pa.ListArray.from_arrays(offsets, entry_M.astype(np.int32))}, MATCH_SCHEMA)


def _has_no_entry(table: pa.Table) -> pa.ChunkedArray:
    return pc.equal(pc.list_value_length(table["entries"]), 0)


def _find_not_drawn(
    reader: PoolReader, num_entries: int, max_per_entry: float | None, keep: int | None, seed: int
) -> Iterator[NDArray[np.bool_]]:
    with reader.make_folder() as folder:  # every step of the search for t is a pass over the entries
        count_E = np.zeros(num_entries, np.int64)
        paths = []
        for path, counts in reader.map(partial(_write_matches, folder=folder, num_entries=num_entries)):
            paths.append(path)
            count_E += counts
        limit = max_per_entry
        if keep is not None:

            def count_expected(limit: float) -> float:
                count = partial(_count_expected, probability_E=entry_probability(count_E, limit))
                return sum(reader.run(count, paths)) * PROBABILITY_UNIT

            limit = choose_limit(count_expected, num_entries, float(count_E.max(initial=1)), keep)
        assert limit is not None
        is_not_drawn = partial(_is_not_drawn, probability_E=entry_probability(count_E, limit), seed=seed)
        yield from reader.run(is_not_drawn, paths)


def _write_matches(table: pa.Table, folder: Path, num_entries: int) -> tuple[Path, NDArray[np.int64]]:
    """Write the pairs to a file; return it and the number of pairs of each entry."""
    path = folder / f"{uuid4().hex}.arrow"
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path, np.bincount(_entries(table).flatten().to_numpy(), minlength=num_entries)


def _read_matches(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _count_expected(path: Path, probability_E: NDArray[np.float64]) -> int:
    """Return the expected number of kept pairs in units, which add up exactly in any order."""
    probability_N = keep_probability(_entries(_read_matches(path)), probability_E)
    return int(np.rint(probability_N / PROBABILITY_UNIT).astype(np.int64).sum())


def _is_not_drawn(path: Path, probability_E: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    table = _read_matches(path)
    probability_N = keep_probability(_entries(table), probability_E)
    is_not_drawn_N: NDArray[np.bool_] = draw_uniform(table["uid"], seed) >= probability_N
    return is_not_drawn_N


def _entries(table: pa.Table) -> pa.ListArray:
    entries = table["entries"].combine_chunks()
    return entries if isinstance(entries, pa.ListArray) else pa.array([], MATCH_SCHEMA.field("entries").type)
