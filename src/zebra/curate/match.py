"""Search for many entries in captions (MetaCLIP, arXiv 2309.16671, §3.2).

Entries are the queries by which a training set is balanced. An entry matches a caption if it is a run of its tokens
(`caption_tokens`), case included. On a side where an entry has a character of a script without spaces, it also matches
inside of a run of such characters (MetaCLIP 2).

The entries are a trie whose nodes are found by a 64-bit hash of all tokens up to them, in one hash table. All positions
of a block of captions take the same step at once. Texts are not compared: among 10⁶ nodes, a wrong match has the
probability 10⁻¹³ per step.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.curate.caption_tokens import CaptionTokens, mix, tokenize
from zebra.errors import ConfigError

BLOCK_SIZE = 8_192
"""Captions at a time: enough that calls cost little, and a few megabytes per array at most."""
NO_NODE, HAS_CHILDREN = 0, 1
"""Values of nodes; that of an entry is twice its number, from 1, plus HAS_CHILDREN if longer entries begin with it."""
_STEP_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_JOINED = np.uint64(0xA0761D6478BD642F)
"""Added to the hash of a node whose last token follows the one before it without a space."""


class EntryMatcher:
    """Finds all entries in captions."""

    def __init__(self, entries: Sequence[str]) -> None:
        """Build the trie.

        Args:
            entries: Distinct texts with at least one character other than white space.

        Raises:
            ConfigError: An entry is empty or repeated.
        """
        self.entries = tuple(entries)
        texts = _strip_entries(entries)
        self._max_token_bytes = max(len(text.encode()) for text in texts)
        tokens = tokenize(pa.array(texts, pa.string()))
        length_N = np.bincount(tokens.row_T, minlength=len(texts))
        first_N = np.cumsum(length_N) - length_N
        keys, values = [], []
        row_K, key_K = np.arange(len(texts)), tokens.hash_T[first_N]
        for depth in range(1, int(length_N.max()) + 1):
            has_next_K = length_N[row_K] > depth
            keys.append(key_K)
            values.append(np.where(has_next_K, HAS_CHILDREN, (row_K + 1) << 1))
            row_K, key_K = row_K[has_next_K], key_K[has_next_K]
            key_K = _step(tokens, first_N[row_K] + depth, key_K)
        self._nodes = _merge_nodes(np.concatenate(keys), np.concatenate(values), self.entries)

    def match(self, text: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the matches as rows and entries, int64 [M] each, sorted, each pair once."""
        pairs, num_rows = [np.zeros(0, np.int64)], 0
        for chunk in text.chunks if isinstance(text, pa.ChunkedArray) else [text]:
            pairs += [
                self._match_block(chunk[start : start + BLOCK_SIZE]) + ((num_rows + start) << 32)
                for start in range(0, len(chunk), BLOCK_SIZE)
            ]
            num_rows += len(chunk)
        pair_M = np.concatenate(pairs)
        return pair_M >> 32, pair_M & 0xFFFFFFFF

    def _match_block(self, text: pa.Array) -> NDArray[np.int64]:
        """Return the matches as row × 2³² + entry, sorted and distinct."""
        tokens = tokenize(text, self._max_token_bytes)
        is_unspaced_T, has_space_after_T = tokens.is_unspaced_T, tokens.has_space_after_T
        value_K = self._nodes.find(tokens.hash_T)
        if is_unspaced_T is not None and has_space_after_T is not None:
            value_K[1:][~(is_unspaced_T[1:] | has_space_after_T[:-1])] = NO_NODE
        found: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        position_K, key_K = np.arange(len(value_K)), tokens.hash_T
        while len(position_K):
            (end_M,) = np.nonzero(value_K > HAS_CHILDREN)
            position_M, entry_M = position_K[end_M], (value_K[end_M] >> 1).astype(np.int64) - 1
            if is_unspaced_T is not None and has_space_after_T is not None:
                is_match_M = is_unspaced_T[position_M] | has_space_after_T[position_M]
                position_M, entry_M = position_M[is_match_M], entry_M[is_match_M]
            found.append(tokens.row_T[position_M] << 32 | entry_M)
            (inner_K,) = np.nonzero((value_K & HAS_CHILDREN) != 0)
            inner_K = inner_K[tokens.has_next_T[position_K[inner_K]]]
            position_K = position_K[inner_K] + 1
            key_K = _step(tokens, position_K, key_K[inner_K])
            value_K = self._nodes.find(key_K)
        return _sort_distinct(np.concatenate(found))


class _HashTable:
    """Values by 64-bit keys. Keys that collide in one array of slots move on to the next, smaller one.

    A slot has the high bits of a key and, in the low bits, its value and whether other keys have moved on. The low bits
    of a key are the number of its slot.
    """

    def __init__(self, key_K: NDArray[np.uint64], value_K: NDArray[np.uint64]) -> None:
        """Insert distinct keys with values other than NO_NODE."""
        num_value_bits = int(value_K.max()).bit_length()
        self._value_mask = np.uint64((1 << num_value_bits) - 1)
        self._moved_on = np.uint64(1 << num_value_bits)
        self._low_mask = self._value_mask | self._moved_on
        self._slots: list[NDArray[np.uint64]] = []
        while len(key_K):
            slots_S = np.zeros(1 << int(2 * len(key_K) - 1).bit_length(), np.uint64)
            slot_K = _to_slot(key_K, slots_S)
            record_K = (key_K & ~self._low_mask) | value_K
            slots_S[slot_K] = record_K
            (moved_K,) = np.nonzero(slots_S[slot_K] != record_K)
            slots_S[slot_K[moved_K]] |= self._moved_on
            self._slots.append(slots_S)
            key_K, value_K = mix(key_K[moved_K]), value_K[moved_K]

    def find(self, key_K: NDArray[np.uint64], level: int = 0) -> NDArray[np.uint64]:
        """Return the values of some keys; NO_NODE for those that are not in the table."""
        slots_S = self._slots[level]
        record_K = slots_S.take(_to_slot(key_K, slots_S))
        is_found_K = (record_K ^ key_K) <= self._low_mask
        value_K = (record_K & self._value_mask) * is_found_K
        (left_K,) = np.nonzero(~is_found_K & ((record_K & self._moved_on) != 0))
        if len(left_K):
            value_K[left_K] = self.find(mix(key_K[left_K]), level + 1)
        return value_K


def _to_slot(key_K: NDArray[np.uint64], slots_S: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (key_K & np.uint64(len(slots_S) - 1)).view(np.int64)


def _step(tokens: CaptionTokens, position_K: NDArray[np.int64], key_K: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the keys of the nodes after one more token, at some positions."""
    key_K = key_K * _STEP_FACTOR + tokens.hash_T[position_K]
    if tokens.has_space_after_T is not None:
        key_K += np.where(tokens.has_space_after_T[position_K - 1], np.uint64(0), _JOINED)
    return mix(key_K)


def _merge_nodes(key_K: NDArray[np.uint64], value_K: NDArray[np.int64], entries: Sequence[str]) -> _HashTable:
    """Return the table of the distinct nodes.

    Raises:
        ConfigError: Two entries have the same tokens.
    """
    order_K = np.lexsort((value_K, key_K))
    key_K, value_K = key_K[order_K], value_K[order_K]
    is_last_K = np.append(key_K[1:] != key_K[:-1], True)
    is_first_K = np.append(True, is_last_K[:-1])
    # The largest value of a node is its entry; the smallest says whether the node has children.
    (repeated,) = np.nonzero(~is_first_K[1:] & (value_K[:-1] > HAS_CHILDREN) & (value_K[1:] > value_K[:-1]))
    if len(repeated):
        first, second = (int(value_K[repeated[0] + offset] >> 1) - 1 for offset in (0, 1))
        raise ConfigError(f"entries {first} and {second} are both {entries[first].strip()!r}. Remove one.")
    value_U = value_K[is_last_K] | (value_K[is_first_K] & HAS_CHILDREN)
    # In a slot that two nodes share, the later one stays: that of the earlier entry, which is often more frequent.
    order_U = np.argsort(value_U)[::-1]
    return _HashTable(key_K[is_last_K][order_U], value_U[order_U].astype(np.uint64))


def _sort_distinct(value_M: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct values, sorted; numpy's `unique` hashes integers, which takes ten times as long here."""
    value_M = np.sort(value_M)
    is_first_M = np.ones(len(value_M), np.bool_)
    is_first_M[1:] = value_M[1:] != value_M[:-1]
    return value_M[is_first_M]


def _strip_entries(entries: Sequence[str]) -> list[str]:
    if not entries:
        raise ConfigError("there are no entries, so that no caption matches one. Give a list with at least one.")
    texts = [entry.strip() for entry in entries]
    if "" in texts:
        raise ConfigError(f"entry {texts.index('')} is empty. Remove it: every caption would match.")
    return texts
