"""Search for many entries in captions (MetaCLIP, arXiv 2309.16671, §3.2).

Entries are the queries by which a training set is balanced. An entry matches a caption if it is a run of its words,
case included. As in MetaCLIP, the marks , . ; : ? ! ` are words of their own, and words are separated by single
spaces, so that a match is a substring of the padded caption.

The entries are a trie over word ids. Each level is an array of sorted keys (node × vocabulary + word), so all
positions of a block of captions take the same step at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.errors import ConfigError

NO_ENTRY = -1


def split_words(text: pa.Array | pa.ChunkedArray) -> pa.ListArray:
    """Return the words of each text; two spaces in a row have an empty word between them."""
    text = pc.replace_substring_regex(text, r"[\t\r\n]", " ")
    words = pc.split_pattern(pc.replace_substring_regex(text, r"[,.;:?!`]", r" \0 "), " ")
    return words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words


class EntryMatcher:
    """Finds all entries in captions."""

    def __init__(self, entries: Sequence[str]) -> None:
        """Build the trie.

        Args:
            entries: Distinct texts with at least one character other than white space.

        Raises:
            ConfigError: An entry is empty or repeated.
        """
        _require_distinct(entries)
        self.entries = tuple(entries)
        words = split_words(pa.array([entry.strip() for entry in entries], pa.string()))
        encoded = words.flatten().dictionary_encode()
        self._vocabulary = encoded.dictionary
        word_W = encoded.indices.to_numpy().astype(np.int64)
        start_N = words.offsets.to_numpy().astype(np.int64)
        length_N = np.diff(start_N)
        node_N = np.zeros(len(entries), np.int64)
        self._levels: list[_Level] = []
        for depth in range(int(length_N.max(initial=0))):
            (row_K,) = np.nonzero(length_N > depth)
            key_K = node_N[row_K] * len(self._vocabulary) + word_W[start_N[row_K] + depth]
            key_U, node_N[row_K] = np.unique(key_K, return_inverse=True)
            level = _Level(key_U, np.full(len(key_U), NO_ENTRY, np.int64), np.zeros(len(key_U), np.bool_))
            is_end_K = length_N[row_K] == depth + 1
            level.entry_U[node_N[row_K[is_end_K]]] = row_K[is_end_K]
            level.has_children_U[node_N[row_K[~is_end_K]]] = True
            self._levels.append(level)
        self._first_node_V = np.full(len(self._vocabulary) + 1, -1, np.int64)  # the last one is any other word's
        if self._levels:
            self._first_node_V[self._levels[0].key_U] = np.arange(len(self._levels[0].key_U))

    def match(self, text: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the matches as rows and entries, int64 [M] each, sorted, each pair once."""
        words = split_words(text)
        encoded = words.flatten().dictionary_encode()
        known = pc.index_in(encoded.dictionary, self._vocabulary).fill_null(len(self._vocabulary)).to_numpy()
        word_W = known[encoded.indices.to_numpy()].astype(np.int64)
        row_W = words.value_parent_indices().to_numpy().astype(np.int64)
        found: list[NDArray[np.int64]] = []
        position_K = np.arange(len(word_W))
        node_K = self._first_node_V[word_W]
        for depth, level in enumerate(self._levels):
            if depth:  # take the next word of the same caption
                position_K = position_K + 1
                is_inside_K = position_K < len(word_W)
                position_K, node_K = position_K[is_inside_K], node_K[is_inside_K]
                is_inside_K = (row_W[position_K - depth] == row_W[position_K]) & (
                    word_W[position_K] < len(self._vocabulary)
                )
                position_K, node_K = position_K[is_inside_K], node_K[is_inside_K]
                node_K = level.find(node_K * len(self._vocabulary) + word_W[position_K])
            is_node_K = node_K >= 0
            position_K, node_K = position_K[is_node_K], node_K[is_node_K]
            entry_K = level.entry_U[node_K]
            is_entry_K = entry_K >= 0
            found.append(row_W[position_K[is_entry_K] - depth] * len(self.entries) + entry_K[is_entry_K])
            has_children_K = level.has_children_U[node_K]
            position_K, node_K = position_K[has_children_K], node_K[has_children_K]
        row_M, entry_M = np.divmod(_sort_distinct(np.concatenate([*found, np.zeros(0, np.int64)])), len(self.entries))
        return row_M, entry_M


@dataclass(frozen=True, slots=True)
class _Level:
    """The nodes of the trie at one depth, in the order of their keys: parent × vocabulary + word."""

    key_U: NDArray[np.int64]
    entry_U: NDArray[np.int64]
    """The entry that ends at the node, or NO_ENTRY."""
    has_children_U: NDArray[np.bool_]

    def find(self, key_K: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the nodes with some keys; -1 if there is none."""
        node_K = np.searchsorted(self.key_U, key_K).clip(max=len(self.key_U) - 1)
        return np.where(self.key_U[node_K] == key_K, node_K, -1)


def _sort_distinct(value_M: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct values, sorted; numpy's `unique` hashes integers, which takes ten times as long here."""
    value_M = np.sort(value_M)
    is_first_M = np.ones(len(value_M), np.bool_)
    is_first_M[1:] = value_M[1:] != value_M[:-1]
    return value_M[is_first_M]


def _require_distinct(entries: Sequence[str]) -> None:
    if not entries:
        raise ConfigError("there are no entries, so that no caption matches one. Give a list with at least one.")
    seen: dict[str, int] = {}
    for number, entry in enumerate(entries):
        text = entry.strip()
        if not text:
            raise ConfigError(f"entry {number} is empty. Remove it: every caption would match.")
        if text in seen:
            raise ConfigError(f"entries {seen[text]} and {number} are both {text!r}. Remove one.")
        seen[text] = number
