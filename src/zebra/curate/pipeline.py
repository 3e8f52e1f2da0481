"""Stages applied in order, and the account of what each rule dropped."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.curate.measurements import Measurement, measure
from zebra.curate.pairs import KEPT, Block, Pairs
from zebra.curate.rules import PairRule, PoolRule, ReasonRule, to_mask
from zebra.engines import Engine, ThreadEngine
from zebra.engines.engine import Item, Result
from zebra.errors import DataError

GROUPS_FOLDER = "groups"
"""Files of the rule that compares pairs at the moment."""

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
    engine: Engine = ThreadEngine(1),  # noqa: B008  it has no state
) -> list[RuleCount]:
    """Apply the stages in order to the remaining pairs; a pair is dropped by the first rule that finds it.

    Args:
        folder: Where measured columns are, and files of rules that compare pairs.
        callback: Called with the number of stages or units done, their total and the stage.
        engine: Runs rules and parallel measurements on several blocks of pairs at a time.

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
                measure(pairs, measurement, folder, engine, callback)
            case PoolRule() as rule:
                counts.append(_apply_pool_rule(_PairsReader(pairs, rule.columns, folder, engine), rule, len(counts)))
            case ReasonRule() as rule:
                counts += _apply_pair_rules(pairs, _split_reasons(pairs, rule), len(counts), engine)
            case _:
                counts += _apply_pair_rules(pairs, batch, len(counts), engine)
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


def _apply_pair_rules(pairs: Pairs, rules: Sequence[PairRule], first_number: int, engine: Engine) -> list[RuleCount]:
    columns = sorted({column for rule in rules for column in rule.columns})
    num_found = pairs.num_kept
    num_dropped_R = np.zeros(len(rules), np.int64)
    jobs = pairs.iter_blocks() if rules else ()
    for block, rule_K in enumerate(engine.map(partial(_find_first_rule, columns=columns, rules=rules), jobs)):
        pairs.drop_by_rules(block, rule_K, first_number)
        num_dropped_R += np.bincount(rule_K[rule_K != KEPT], minlength=len(rules))
    counts = []
    for rule, num_dropped in zip(rules, num_dropped_R.tolist(), strict=True):
        counts.append(RuleCount(rule.stage, rule.reason, num_found, num_dropped))
        num_found -= num_dropped
    return counts


def _find_first_rule(block: Block, columns: Sequence[str], rules: Sequence[PairRule]) -> NDArray[np.int16]:
    """Return the number of the first rule that finds each of the K remaining pairs, or KEPT."""
    remaining = block.read(columns)
    rule_K = np.full(len(remaining), KEPT, np.int16)
    for number, rule in enumerate(rules):
        is_dropped = to_mask(rule.find(remaining))
        if is_dropped.any():
            (row_K,) = np.nonzero(rule_K == KEPT)
            rule_K[row_K[is_dropped]] = number
            remaining = remaining.filter(pa.array(~is_dropped)).combine_chunks()
    return rule_K


@dataclass(frozen=True, slots=True)
class _PairsReader:
    """The remaining pairs for a rule that compares them, as `PoolReader`."""

    pairs: Pairs
    columns: tuple[str, ...]
    folder: Path
    engine: Engine

    @property
    def num_pairs(self) -> int:
        return self.pairs.num_kept

    def __call__(self) -> Iterator[pa.Table]:
        return self.pairs.read_kept(self.columns)

    def map(self, function: Callable[[pa.Table], Result]) -> Iterator[Result]:
        job = partial(_read_and_call, columns=self.columns, function=function)
        return self.engine.map(job, self.pairs.iter_blocks())

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return self.engine.map(function, items)

    @contextmanager
    def make_folder(self) -> Iterator[Path]:
        folder = self.folder / GROUPS_FOLDER
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)


def _read_and_call(block: Block, columns: Sequence[str], function: Callable[[pa.Table], Result]) -> Result:
    return function(block.read(columns))


def _apply_pool_rule(reader: _PairsReader, rule: PoolRule, number: int) -> RuleCount:
    num_found = reader.num_pairs
    for block, is_dropped_K in enumerate(list(rule.find(reader))):
        reader.pairs.drop(block, is_dropped_K, number)
    return RuleCount(rule.stage, rule.reason, num_found, num_found - reader.num_pairs)
