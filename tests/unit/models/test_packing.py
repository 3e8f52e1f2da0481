"""Packed texts: each distinct prefix once, attending to its own tokens only."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from zebra.models.packing import BLOCK_SIZE, pack_texts, split_batches

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), min_size=1, max_size=60)
LONG = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=77).map(tuple), min_size=1, max_size=12)


def pad(texts, padding=0):
    """Return texts as rows, padded with a token, and their lengths."""
    tokens_BL = np.full((len(texts), max(map(len, texts))), padding, np.int64)
    for row, text in zip(tokens_BL, texts, strict=True):
        row[: len(text)] = text
    return tokens_BL, np.array([len(text) for text in texts], np.int64)


def prefixes(texts):
    return {text[:length] for text in texts for length in range(1, len(text) + 1)}


def read_prefixes(packed):
    """Yield the tokens that each node attends to, in order of position; they should be its prefix."""
    num_blocks, query, _ = packed.mask_SQK.shape
    node_SQ = torch.arange(num_blocks * query).view(num_blocks, query)
    key_SK = torch.cat([packed.ancestor_SA, node_SQ], dim=1)
    for block in range(num_blocks):
        for row in range(query):
            keys = key_SK[block][packed.mask_SQK[block, row]].tolist()
            by_position = sorted((int(packed.position_N[node]), int(packed.token_N[node])) for node in keys)
            assert [position for position, _ in by_position] == list(range(len(keys)))
            yield tuple(token for _, token in by_position)


@given(TEXTS | LONG, st.integers(0, 2))
def test_nodes_are_the_distinct_prefixes_and_attend_to_exactly_their_own_tokens(texts, padding):
    nodes = list(read_prefixes(pack_texts(*pad(texts, padding))))
    expected = prefixes(texts)
    real, padding_nodes = nodes[: len(expected)], nodes[len(expected) :]
    assert len(set(real)) == len(real)
    assert set(real) == expected
    assert all(len(node) == 1 for node in padding_nodes)


@given(TEXTS | LONG)
def test_a_text_ends_at_the_node_of_its_last_token(texts):
    packed = pack_texts(*pad(texts))
    nodes = list(read_prefixes(packed))
    assert [nodes[end] for end in packed.end_B] == texts


@given(TEXTS | LONG)
def test_padding_is_less_than_one_node_per_block_and_blocks_have_a_maximum_length(texts):
    packed = pack_texts(*pad(texts))
    num_blocks, query, _ = packed.mask_SQK.shape
    assert 0 <= len(packed.token_N) - len(prefixes(texts)) < num_blocks
    assert query <= BLOCK_SIZE


def test_a_single_text_is_packed_without_padding():
    assert len(pack_texts(*pad([(5, 3, 8, 2)])).token_N) == 4


@given(TEXTS, st.integers(1, 40))
def test_batches_have_every_text_once_and_a_bounded_number_of_nodes(texts, max_nodes):
    batches = split_batches(*pad(texts), max_nodes)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(texts)))
    for batch in batches:
        first, *_ = members = [texts[index] for index in batch]
        assert len(prefixes(members)) <= max_nodes + len(first)


def test_texts_with_common_prefixes_are_in_the_same_batch():
    texts = [(1, 1, 1, 1), (2, 2, 2, 2), (1, 1, 1, 2), (2, 2, 2, 2), (1, 1, 1, 1)]
    assert [sorted(part.tolist()) for part in split_batches(*pad(texts), 5)] == [[0, 2, 4], [1, 3]]
