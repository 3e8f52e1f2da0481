"""Pairs with equal keys are compared in partitions as if all of them were in memory."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zebra.config.curate import ImageRules
from zebra.curate import partitions
from zebra.curate.image_rules import duplicate_rules
from zebra.curate.partitions import compute_digests, find_among_equal, find_more_frequent
from zebra.curate.rules import TableReader, find_alone


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PAIRS_PER_PARTITION", 3)


def split(table: pa.Table, stops: list[int]) -> list[pa.Table]:
    starts = [0, *stops]
    return [table.slice(start, stop - start) for start, stop in zip(starts, [*stops, len(table)], strict=True)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.integers(0, 4), st.data())
def test_frequent_keys_are_those_that_a_counter_finds(texts: list[str], limit: int, data: st.DataObject) -> None:
    stops = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=4)))
    reader = TableReader(split(pa.table({"text": pa.array(texts, pa.string())}), stops))
    masks = find_among_equal(
        reader,
        lambda table: pa.table({"digest": compute_digests(table["text"])}),
        lambda table: find_more_frequent(table, limit),
    )
    masks = list(masks)
    counts = Counter(texts)
    assert [len(mask) for mask in masks] == [len(table) for table in reader.tables]
    assert np.concatenate(masks).tolist() == [counts[text] > limit for text in texts]


def find_duplicates(rows: list[tuple[str, str, str]], stops: list[int]) -> set[tuple[str, str, str]]:
    """Return the rows of sample, image and caption that remain."""
    index = {name: number for number, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    names, images, texts = zip(*rows, strict=True)
    table = pa.table(
        {
            "id": names,
            "index": [index[name] for name in names],
            "sha256": pa.array([image.encode().ljust(32, b".") for image in images], pa.binary(32)),
            "text": texts,
        }
    )
    tables = split(table, stops)
    for rule in duplicate_rules(ImageRules()):
        mask = np.concatenate([np.zeros(0, np.bool_), find_alone(rule, tables)])
        table = table.filter(pa.array(~mask))
        tables = [table]
    return {(row["id"], row["sha256"].decode().rstrip("."), row["text"]) for row in table.to_pylist()}


ROWS = [
    ("1.png", "horse", "a horse"),
    ("1.png", "horse", "ein Pferd"),
    ("2.png", "dog", "a dog"),
    ("3.png", "horse", "a horse"),
    ("3.png", "horse", "un cheval"),
    ("4.png", "dog", "a cat"),
    ("5.png", "cat", "a cat"),
]


@pytest.mark.parametrize("seed", range(6))
def test_of_repeated_images_the_sample_whose_name_comes_first_stays_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = rng.permutation([f"{number}.png" for number in range(1, 6)]).tolist()
    rows = sorted(ROWS, key=lambda row: names.index(row[0]))  # captions of a sample stay together
    stops = sorted(rng.integers(0, len(rows) + 1, 2).tolist())
    assert find_duplicates(rows, stops) == {row for row in ROWS if row[0] in ("1.png", "2.png", "5.png")}


def test_a_caption_that_a_sample_has_twice_stays_once() -> None:
    rows = [("1.png", "horse", "a horse"), ("1.png", "horse", "a horse"), ("1.png", "horse", "a pony")]
    assert find_duplicates(rows, []) == set(rows)
    table = pa.table({"id": ["1"] * 2, "sha256": pa.array([b"x" * 32] * 2, pa.binary(32)), "text": ["a", "a"]})
    assert find_alone(duplicate_rules(ImageRules())[0], [table]).tolist() == [False, True]
