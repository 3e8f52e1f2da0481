"""Rules for samples that cannot be read, one per reason."""

import pyarrow as pa
import pyarrow.compute as pc

from zebra.curate.pairs import Pairs
from zebra.curate.rules import PairRule


def unreadable_rules(pairs: Pairs) -> list[PairRule]:
    """Return a rule for every reason that the scan recorded, in alphabetical order."""
    reasons: set[str] = set()
    for table in pairs.read_kept(("reason",)):
        reasons |= set(table["reason"].unique().to_pylist()) - {None}
    return [_rule(reason) for reason in sorted(reasons)]


def _rule(reason: str) -> PairRule:
    def find(table: pa.Table) -> pa.ChunkedArray:
        return pc.equal(table["reason"], reason)

    return PairRule("read", reason, ("reason",), find)
