"""Rules that drop pairs, applied in order, and the account of what each dropped."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.curate.pairs import Pairs
from zebra.errors import DataError


@dataclass(frozen=True, slots=True)
class PairRule:
    """A rule that looks at one pair at a time."""

    stage: str
    reason: str
    columns: tuple[str, ...]
    find: Callable[[pa.Table], pa.BooleanArray | pa.ChunkedArray]
    """Returns which pairs of a table to drop; null counts as false."""


@dataclass(frozen=True, slots=True)
class PoolRule:
    """A rule that compares the pairs of the whole pool."""

    stage: str
    reason: str
    columns: tuple[str, ...]
    find: Callable[[Callable[[], Iterable[pa.Table]]], Iterator[NDArray[np.bool_]]]
    """Takes a function that starts a pass over the remaining pairs, and yields which of each table's to drop."""


Rule = PairRule | PoolRule


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What one rule found and dropped."""

    stage: str
    reason: str
    found: int
    dropped: int


def apply_rules(
    pairs: Pairs,
    rules: Sequence[Rule],
    callback: Callable[[int, int, str], None] = lambda _done, _total, _stage: None,
    *,
    first_number: int = 0,
) -> list[RuleCount]:
    """Apply the rules in order to the remaining pairs; a pair is dropped by the first that finds it.

    Args:
        first_number: Number of rules that were applied before.
        callback: Called with the number of rules done, their total and the next stage.

    Raises:
        DataError: The counts do not add up, which is a bug.
    """
    num_pairs, dropped = pairs.num_kept, [0] * len(rules)
    numbered = list(enumerate(rules))
    # Consecutive rules on single pairs share one pass over the files.
    for is_pair_rule, group in groupby(numbered, lambda item: isinstance(item[1], PairRule)):
        batch = list(group)
        callback(batch[0][0], len(rules), batch[0][1].stage)
        if is_pair_rule:
            _apply_pair_rules(pairs, batch, dropped, first_number)
        else:
            for number, rule in batch:
                dropped[number] = _apply_pool_rule(pairs, first_number + number, rule)
    if pairs.num_kept + sum(dropped) != num_pairs:
        raise DataError(
            f"{num_pairs:,} pairs were found, but {pairs.num_kept:,} are kept and {sum(dropped):,} dropped. This is a "
            "bug of zebra; please report it."
        )
    counts, found = [], num_pairs
    for rule, num_dropped in zip(rules, dropped, strict=True):
        counts.append(RuleCount(rule.stage, rule.reason, found, num_dropped))
        found -= num_dropped
    return counts


def find_alone(rule: Rule, tables: Sequence[pa.Table]) -> NDArray[np.bool_]:
    """Return which of all pairs a rule would drop if it were the only one, bool [N]."""
    if isinstance(rule, PairRule):
        return np.concatenate([_to_mask(rule.find(table)) for table in tables])
    return np.concatenate(list(rule.find(lambda: tables)))


def _apply_pair_rules(pairs: Pairs, rules: Sequence[tuple[int, Rule]], dropped: list[int], first_number: int) -> None:
    columns = sorted({column for _, rule in rules for column in rule.columns})
    for file_number, table in enumerate(pairs.read_kept(columns)):
        remaining = table
        for number, rule in rules:
            assert isinstance(rule, PairRule)
            is_dropped_K = _to_mask(rule.find(remaining))
            pairs.drop(file_number, is_dropped_K, first_number + number)
            dropped[number] += int(is_dropped_K.sum())
            remaining = remaining.filter(pa.array(~is_dropped_K))


def _apply_pool_rule(pairs: Pairs, number: int, rule: Rule) -> int:
    assert isinstance(rule, PoolRule)
    num_dropped = 0
    masks = list(rule.find(lambda: pairs.read_kept(rule.columns)))
    for file_number, is_dropped_K in enumerate(masks):
        pairs.drop(file_number, is_dropped_K, number)
        num_dropped += int(is_dropped_K.sum())
    return num_dropped


def _to_mask(values: pa.BooleanArray | pa.ChunkedArray) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = values.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
