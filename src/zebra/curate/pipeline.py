"""Stages applied in order, and the account of what each rule dropped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from zebra.curate.measurements import Measurement, measure
from zebra.curate.pairs import Pairs
from zebra.curate.rules import PairRule, PoolRule, ReasonRule, to_mask
from zebra.errors import DataError

Stage = PairRule | PoolRule | ReasonRule | Measurement


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What one rule found and dropped. Its position in the list of all is the decision on the dropped pairs."""

    stage: str
    reason: str
    found: int
    dropped: int


def apply_stages(
    pairs: Pairs,
    stages: Sequence[Stage],
    folder: Path,
    callback: Callable[[int, int, str], None] = lambda _done, _total, _stage: None,
) -> list[RuleCount]:
    """Apply the stages in order to the remaining pairs; a pair is dropped by the first rule that finds it.

    Args:
        folder: Where measured columns are.
        callback: Called with the number of stages or units done, their total and the stage.

    Raises:
        DataError: The counts do not add up, which is a bug.
    """
    num_pairs = pairs.num_kept
    counts: list[RuleCount] = []
    # Consecutive rules on single pairs share one pass over the units.
    for _, group in groupby(enumerate(stages), lambda item: item[0] if not isinstance(item[1], PairRule) else -1):
        numbers, batch = zip(*group, strict=True)
        callback(numbers[0], len(stages), batch[0].stage)
        match batch[0]:
            case Measurement() as measurement:
                measure(pairs, measurement, folder, callback)
            case PoolRule() as rule:
                counts.append(_apply_pool_rule(pairs, rule, len(counts)))
            case ReasonRule() as rule:
                counts += _apply_pair_rules(pairs, _split_reasons(pairs, rule), len(counts))
            case _:
                counts += _apply_pair_rules(pairs, batch, len(counts))
    num_dropped = sum(count.dropped for count in counts)
    if pairs.num_kept + num_dropped != num_pairs:
        raise DataError(
            f"{num_pairs:,} pairs were found, but {pairs.num_kept:,} are kept and {num_dropped:,} dropped. This is a "
            "bug of zebra; please report it."
        )
    return counts


def _split_reasons(pairs: Pairs, rule: ReasonRule) -> list[PairRule]:
    """Return a rule for every value of the column, in alphabetical order."""
    reasons: set[str] = set()
    for table in pairs.read_kept((rule.column,)):
        reasons |= set(table[rule.column].unique().to_pylist()) - {None}

    def find(reason: str) -> Callable[[pa.Table], pa.ChunkedArray]:
        return lambda table: pc.equal(table[rule.column], reason)

    return [PairRule(rule.stage, reason, (rule.column,), find(reason)) for reason in sorted(reasons)]


def _apply_pair_rules(pairs: Pairs, rules: Sequence[PairRule], first_number: int) -> list[RuleCount]:
    columns = sorted({column for rule in rules for column in rule.columns})
    found, dropped = [0] * len(rules), [0] * len(rules)
    for unit, table in enumerate(pairs.read_kept(columns) if rules else ()):
        remaining = table
        for number, rule in enumerate(rules):
            is_dropped_K = to_mask(rule.find(remaining))
            pairs.drop(unit, is_dropped_K, first_number + number)
            found[number] += len(remaining)
            dropped[number] += int(is_dropped_K.sum())
            remaining = remaining.filter(pa.array(~is_dropped_K))
    return [
        RuleCount(rule.stage, rule.reason, num_found, num_dropped)
        for rule, num_found, num_dropped in zip(rules, found, dropped, strict=True)
    ]


def _apply_pool_rule(pairs: Pairs, rule: PoolRule, number: int) -> RuleCount:
    num_found = pairs.num_kept
    for unit, is_dropped_K in enumerate(list(rule.find(lambda: pairs.read_kept(rule.columns)))):
        pairs.drop(unit, is_dropped_K, number)
    return RuleCount(rule.stage, rule.reason, num_found, num_found - pairs.num_kept)
