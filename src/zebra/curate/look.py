"""What each rule would drop from a sample of a pool, alone and in order."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from zebra.curate.measurements import Measurement
from zebra.curate.pairs import KEPT, Pairs
from zebra.curate.pipeline import Stage, apply_stages
from zebra.curate.rules import ReasonRule, find_alone

MAX_EXAMPLES = 3
MAX_EXAMPLE_CHARS = 60


@dataclass(frozen=True, slots=True)
class RuleLook:
    """What a rule would drop from a sample of the pool."""

    stage: str
    reason: str
    num_pairs: int
    """Pairs of the sample."""
    alone: int
    """Pairs that it finds among all readable ones."""
    in_order: int
    """Pairs that it drops after the rules before it."""
    examples: list[str]
    """Captions, or names of samples, of some that it drops."""


def look_at_rules(
    pairs: Pairs, stages: Sequence[Stage], folder: Path, callback: Callable[[int, int, str], None]
) -> list[RuleLook]:
    """Measure all columns, then apply each rule alone to the readable pairs, and all rules in order.

    Args:
        pairs: The sample; all of it is in memory at a time.
        folder: Where measured columns are.
        callback: Called with the number of stages or units done, their total and the stage.
    """
    unusable = apply_stages(
        pairs, [stage for stage in stages if isinstance(stage, Measurement) or _is_failure(stage)], folder, callback
    )
    tables = list(pairs.read_kept(pairs.columns))
    alone = {(count.stage, count.reason): count.dropped for count in unusable}
    rules = [stage for stage in stages if not isinstance(stage, Measurement)]
    for rule in rules:
        if isinstance(rule, ReasonRule):
            values = Counter(value for table in tables for value in table[rule.column].to_pylist() if value is not None)
            alone |= {(rule.stage, reason): count for reason, count in values.items() if not rule.is_failure}
        else:
            alone[rule.stage, rule.reason] = int(find_alone(rule, tables).sum())
    pairs = pairs.without_decisions()
    counts = apply_stages(pairs, rules, folder, callback)
    examples = _collect_examples(pairs, len(counts))
    return [
        RuleLook(
            count.stage, count.reason, len(pairs), alone[count.stage, count.reason], count.dropped, examples[number]
        )
        for number, count in enumerate(counts)
    ]


def _is_failure(stage: Stage) -> bool:
    return isinstance(stage, ReasonRule) and stage.is_failure


def _collect_examples(pairs: Pairs, num_rules: int) -> list[list[str]]:
    """Return the first pairs that each rule dropped, as text."""
    examples: list[list[str]] = [[] for _ in range(num_rules)]
    for table, decision_N in pairs.read_decisions(("id", "text")):
        rows = zip(table["id"].to_pylist(), table["text"].to_pylist(), decision_N.tolist(), strict=True)
        for sample_id, text, number in rows:
            if number != KEPT and len(examples[number]) < MAX_EXAMPLES:
                name = sample_id if text is None else repr(shorten(text, MAX_EXAMPLE_CHARS, placeholder="…"))
                examples[number].append(name)
    return examples
