"""What each rule would drop from a sample of a pool, alone and in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

from zebra.curate.pairs import KEPT, PAIR_SCHEMA, Pairs
from zebra.curate.rules import Rule, apply_rules, find_alone

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


def look_at_rules(pairs: Pairs, rules: Sequence[Rule]) -> list[RuleLook]:
    """Apply all rules to the pairs in order, and each that does not look for unreadable samples alone.

    Args:
        pairs: The sample; all of it is in memory at a time.
        rules: Those for unreadable samples first.
    """
    num_read_rules = sum(rule.stage == "read" for rule in rules)
    counts = apply_rules(pairs, rules[:num_read_rules])
    tables = list(pairs.read_kept(PAIR_SCHEMA.names))
    alone = [count.dropped for count in counts]
    alone += [int(find_alone(rule, tables).sum()) for rule in rules[num_read_rules:]]
    counts += apply_rules(pairs, rules[num_read_rules:], first_number=num_read_rules)
    examples = _collect_examples(pairs, len(rules))
    return [
        RuleLook(count.stage, count.reason, len(pairs), alone[number], count.dropped, examples[number])
        for number, count in enumerate(counts)
    ]


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
