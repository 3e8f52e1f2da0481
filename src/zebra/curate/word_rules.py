"""Rules for the words of captions: rare ones, and nouns."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.curate_text import TextRules
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PairRule, PoolRule
from zebra.curate.text_rules import STAGE, normalize_captions
from zebra.errors import ConfigError

MAX_UNMERGED_COUNTS = 1 << 22
"""Counts of words of single tables that are collected before they are merged."""
_PLURALS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("men", "man"), ("es", ""), ("s", ""))
"""Ending → ending of the singular, by the rules of WordNet's morphology for nouns."""


def word_rules(config: TextRules) -> list[Stage]:
    """Return the rules of a config; words are in lower case and without punctuation.

    Raises:
        ConfigError: The nouns cannot be read.
    """
    rules: list[Stage] = []
    if config.min_word_count > 1:
        rules.append(
            PoolRule(
                STAGE,
                f"caption with a word that occurs under {config.min_word_count:,} times",
                ("text",),
                lambda read: _find_rare(read, config.min_word_count),
            )
        )
    if config.nouns is not None:
        nouns = read_nouns(Path(config.nouns))
        rules.append(
            PairRule(STAGE, "caption without a noun", ("text",), lambda table: pa.array(_lacks_noun(table, nouns)))
        )
    return rules


def read_nouns(path: Path) -> frozenset[str]:
    """Return the nouns of a list with one per line, or of WordNet's index.noun, in lower case.

    Raises:
        ConfigError: The file cannot be read, or has no nouns.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the nouns {path}: {error}. Give a UTF-8 file with one per line") from error
    # WordNet's license is indented; a line of its index is `lemma n …`.
    words = (line.strip().lower().split(" n ")[0] for line in lines if not line.startswith(" "))
    nouns = frozenset(word for word in words if word)
    if not nouns:
        raise ConfigError(f"{path} has no nouns. Write one per line.")
    return nouns


def is_noun(word: str, nouns: frozenset[str]) -> bool:
    """Return whether a word in lower case is a noun or the regular plural of one.

    >>> [is_noun(word, frozenset(["pony", "box", "of"])) for word in ("ponies", "boxes", "boxy")]
    [True, True, False]
    """
    return word in nouns or any(
        word.endswith(plural) and word.removesuffix(plural) + singular in nouns for plural, singular in _PLURALS
    )


def _lacks_noun(table: pa.Table, nouns: frozenset[str]) -> NDArray[np.bool_]:
    row_W, code_W, vocabulary = _encode_words(table)
    is_noun_V = np.fromiter((is_noun(word, nouns) for word in vocabulary), np.bool_, len(vocabulary))
    num_nouns_N = np.bincount(row_W[is_noun_V[code_W]], minlength=len(table))
    return np.equal(num_nouns_N, 0)


def _find_rare(read: Callable[[], Iterable[pa.Table]], min_count: int) -> Iterator[NDArray[np.bool_]]:
    """Yield which captions have a word that occurs less often in all of them together."""
    hash_U, count_U = _count_words(read())
    for table in read():
        row_W, code_W, vocabulary = _encode_words(table)
        is_word_V = np.fromiter(map(bool, vocabulary), np.bool_, len(vocabulary))
        is_rare_V = is_word_V & (count_U[np.searchsorted(hash_U, _hash_words(vocabulary))] < min_count)
        yield np.bincount(row_W[is_rare_V[code_W]], minlength=len(table)) > 0


def _count_words(tables: Iterable[pa.Table]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted hashes of all words and their counts; 16 bytes per distinct word."""
    parts = [np.zeros((2, 0), np.int64)]
    for table in tables:
        _, code_W, vocabulary = _encode_words(table)
        parts.append(np.stack([_hash_words(vocabulary), np.bincount(code_W, minlength=len(vocabulary))]))
        if sum(part.shape[1] for part in parts[1:]) > MAX_UNMERGED_COUNTS:
            parts = [_merge(parts)]
    hash_U, count_U = _merge(parts)
    return hash_U, count_U


def _merge(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    hash_M, count_M = np.concatenate(parts, axis=1)
    hash_U, inverse_M = np.unique(hash_M, return_inverse=True)
    count_U = np.zeros(len(hash_U), np.int64)
    np.add.at(count_U, inverse_M, count_M)
    return np.stack([hash_U, count_U])


def _hash_words(words: list[str]) -> NDArray[np.int64]:
    # Equal within a process; of 10⁷ words, two distinct ones share a hash with p < 10⁻⁵.
    return np.fromiter(map(hash, words), np.int64, len(words))


def _encode_words(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return the row and the number in the vocabulary of each word, [W], and the vocabulary.

    A caption without words has one empty word.
    """
    words = pc.split_pattern(normalize_captions(table["text"]), " ").combine_chunks()
    encoded = words.flatten().dictionary_encode()
    return (
        words.value_parent_indices().to_numpy().astype(np.int64),
        encoded.indices.to_numpy().astype(np.int64),
        encoded.dictionary.to_pylist(),
    )
