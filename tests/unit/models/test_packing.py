"""Each distinct prefix stands in a run once, sees itself and what it begins with, and nothing else."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from zebra.models.packing import BLOCK_SIZE, pack_texts, split_batches

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), min_size=1, max_size=60)
LONG = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=77).map(tuple), min_size=1, max_size=12)


def padded(texts, behind=0):
    """Write texts as rows, with some token behind their ends."""
    tokens_BL = np.full((len(texts), max(map(len, texts))), behind, np.int64)
    for row, text in zip(tokens_BL, texts, strict=True):
        row[: len(text)] = text
    return tokens_BL, np.array([len(text) for text in texts], np.int64)


def prefixes(texts):
    return {text[:length] for text in texts for length in range(1, len(text) + 1)}


def spelled(run):
    """Read each node's tokens off what it sees, nearest first: its own prefix, if all is well."""
    num_stretches, query, _ = run.mask_SQK.shape
    own_SQ = torch.arange(num_stretches * query).view(num_stretches, query)
    key_SK = torch.cat([run.ancestor_SA, own_SQ], dim=1)
    for stretch in range(num_stretches):
        for row in range(query):
            seen = key_SK[stretch][run.mask_SQK[stretch, row]].tolist()
            by_position = sorted((int(run.position_N[node]), int(run.token_N[node])) for node in seen)
            assert [position for position, _ in by_position] == list(range(len(seen)))
            yield tuple(token for _, token in by_position)


@given(TEXTS | LONG, st.integers(0, 2))
def test_the_nodes_are_the_distinct_prefixes_and_each_sees_exactly_its_own_tokens(texts, behind):
    nodes = list(spelled(pack_texts(*padded(texts, behind))))
    expected = prefixes(texts)
    real, fillers = nodes[: len(expected)], nodes[len(expected) :]
    assert len(set(real)) == len(real)
    assert set(real) == expected
    assert all(len(filler) == 1 for filler in fillers)


@given(TEXTS | LONG)
def test_a_text_ends_at_the_node_that_spells_it(texts):
    run = pack_texts(*padded(texts))
    nodes = list(spelled(run))
    assert [nodes[end] for end in run.end_B] == texts


@given(TEXTS | LONG)
def test_fillers_are_fewer_than_stretches_and_stretches_no_longer_than_allowed(texts):
    run = pack_texts(*padded(texts))
    num_stretches, query, _ = run.mask_SQK.shape
    assert 0 <= len(run.token_N) - len(prefixes(texts)) < num_stretches
    assert query <= BLOCK_SIZE


def test_one_text_alone_is_computed_without_a_filler():
    assert len(pack_texts(*padded([(5, 3, 8, 2)])).token_N) == 4


@given(TEXTS, st.integers(1, 40))
def test_batches_hold_every_text_once_and_bounded_numbers_of_nodes(texts, most):
    parts = split_batches(*padded(texts), most)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(texts)))
    for part in parts:
        first, *_ = members = [texts[index] for index in part]
        assert len(prefixes(members)) <= most + len(first)


def test_equal_texts_and_equal_beginnings_come_into_the_same_batch():
    texts = [(1, 1, 1, 1), (2, 2, 2, 2), (1, 1, 1, 2), (2, 2, 2, 2), (1, 1, 1, 1)]
    assert [sorted(part.tolist()) for part in split_batches(*padded(texts), 5)] == [[0, 2, 4], [1, 3]]
