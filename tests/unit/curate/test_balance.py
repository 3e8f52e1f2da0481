"""Balancing keeps what its probabilities say, whatever the order of the pool."""

import numpy as np
import pyarrow as pa
import pytest

from zebra.config.curate import BalanceRules
from zebra.curate.balance import (
    balance_rules,
    choose_limit,
    draw_uniform,
    entry_probability,
    keep_probability,
    match_stages,
)
from zebra.curate.match import EntryMatcher
from zebra.curate.pairs import make_uid
from zebra.curate.rules import find_alone
from zebra.errors import ConfigError


def make_table(counts: dict[str, int]) -> pa.Table:
    texts = [text for text, count in counts.items() for _ in range(count)]
    uids = [make_uid(str(number), text) for number, text in enumerate(texts)]
    return pa.table({"uid": pa.array(uids, pa.binary(16)), "text": texts})


def find_dropped(tables: list[pa.Table], entries: list[str], **settings: object) -> list[np.ndarray]:
    """Return which pairs have no entry, and which are not drawn."""
    matcher = EntryMatcher(entries)
    match, *rules = match_stages(matcher)
    rules += balance_rules(matcher, **({"max_per_entry": None, "keep": None, "seed": 0} | settings))
    matched = [table.append_column("entries", match.compute(table)["entries"]) for table in tables]
    return [find_alone(rule, matched) for rule in rules]


def test_frequent_entries_keep_about_their_limit_and_rare_ones_all() -> None:
    table = make_table({"a dog": 4000, "a zebra": 30, "zebra and dog": 20, "nothing": 50})
    unmatched_N, not_drawn_N = find_dropped([table], ["dog", "zebra"], max_per_entry=500)
    texts = table["text"].to_pylist()
    assert {texts[row] for row in np.flatnonzero(unmatched_N)} == {"nothing"}
    kept = [text for text, drop in zip(texts, not_drawn_N, strict=True) if not drop]
    assert (kept.count("a zebra"), kept.count("zebra and dog"), kept.count("nothing")) == (30, 20, 0)
    assert abs(kept.count("a dog") - 4000 * 500 / 4020) < 4 * (4000 * 0.124 * 0.876) ** 0.5


def test_the_number_to_keep_is_met_within_three_standard_deviations() -> None:
    table = make_table({"a dog": 3000, "a cat": 1000, "a zebra": 100, "zebra and dog": 50})
    _, not_drawn_N = find_dropped([table], ["dog", "cat", "zebra"], keep=1200, seed=1)
    assert abs(int((~not_drawn_N).sum()) - 1200) < 3 * 1200**0.5


def test_the_draw_depends_on_seed_and_pair_alone() -> None:
    table = make_table({"a dog": 2000})
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    kept = []
    for tables in ([table], [shuffled], [shuffled[:7], shuffled[7:]]):
        _, not_drawn_N = find_dropped(tables, ["dog"], keep=700, seed=3)
        uids = [uid for part in tables for uid in part["uid"].to_pylist()]
        kept.append({uid for uid, drop in zip(uids, not_drawn_N, strict=True) if not drop})
    assert kept[0] == kept[1] == kept[2]
    _, not_drawn_N = find_dropped([table], ["dog"], keep=700, seed=4)
    assert not np.array_equal(not_drawn_N, ~np.isin(table["uid"].to_pylist(), list(kept[0])))
    uniform_N = draw_uniform(table["uid"], 3)
    assert uniform_N.min() >= 0
    assert uniform_N.max() < 1
    assert abs(uniform_N.mean() - 0.5) < 4 * (1 / 12 / 2000) ** 0.5


def test_probabilities_follow_the_product_rule() -> None:
    entries = pa.array([[0, 1], [1], []], pa.list_(pa.int32()))
    count_E = np.array([10, 4])
    probability_E = entry_probability(count_E, 2)
    assert probability_E.tolist() == [0.2, 0.5]
    assert keep_probability(entries, probability_E) == pytest.approx([1 - 0.8 * 0.5, 0.5, 0])
    assert keep_probability(entries, np.array([1.0, 0.5])) == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(("keep", "expected"), [(1, 1), (2, 2), (60, 60), (99, 99), (100, 100), (500, 100)])
def test_the_limit_for_a_number_to_keep_is_found_in_few_passes(keep: int, expected: float) -> None:
    count_E = np.array([10_000, 300, 7, 50, 50, 1])
    entries = pa.array([[0]] * 80 + [[0, 1]] * 10 + [[2], [3, 4, 5]] * 5, pa.list_(pa.int32()))
    passes: list[float] = []

    def count_expected(limit: float) -> float:
        passes.append(limit)
        return keep_probability(entries, entry_probability(count_E, limit)).sum()

    limit = choose_limit(count_expected, 6, 10_000, keep)
    assert count_expected(limit) == pytest.approx(expected, rel=1e-9)
    assert len(passes) < 20


@pytest.mark.parametrize(
    "settings", [{"max_per_entry": 0}, {"keep": 0}, {"max_per_entry": -1}, {"keep": 5, "max_per_entry": 5}]
)
def test_limits_that_keep_nothing_or_contradict_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"balance\.(max_per_entry|keep)"):
        BalanceRules(entries="entries.txt", **settings)
