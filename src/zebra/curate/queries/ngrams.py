"""Frequent words and bigrams of high pointwise mutual information."""

import functools
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.curate.caption_tokens import MARKS, UNSPACED_RANGES
from zebra.curate.queries.counts import SpillingCounter

_BREAKS = (*(mark.decode() for mark in MARKS), "\n", "\r", "\t")
"""What ends a run of words anywhere; other punctuation does beside white space."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class WordCounts:
    """The frequent words of a text."""

    counts: dict[str, int]
    """Word → occurrences, the most frequent first, then by the alphabet."""
    num_words: int
    """Occurrences of all words."""


@dataclass(frozen=True, slots=True)
class Bigram:
    """Two words in a row."""

    text: str
    count: int
    pmi: float
    """Pointwise mutual information in bits."""


def split_tokens(text: str) -> list[str]:
    """Return what stands between white space; marks and line breaks are tokens of punctuation.

    >>> split_tokens("The horse (a mare), is red")
    ['The', 'horse', '(a', 'mare)', '.', 'is', 'red']
    """
    for mark in _BREAKS:
        text = text.replace(mark, " . ")
    return text.split()


def strip_punctuation(token: str) -> str:
    """Return the word in a token of at least one character, without punctuation at its ends; "" if there is none.

    In scripts without spaces a word may be a whole phrase, unless the text was segmented before.
    """
    if token[0].isalnum() and token[-1].isalnum():  # mostly; strip() looks through all punctuation
        return token
    return token.strip(_punctuation())


def count_frequent_words(blocks: Iterable[str], min_count: int, folder: Path) -> WordCounts:
    """Count the words of a text; those with undecodable characters count as occurrences only.

    Args:
        blocks: The text in parts that end between two words.
        folder: For what does not fit into memory; it must exist.
    """
    counter = SpillingCounter(folder, pa.string())
    num_words = 0
    for block in blocks:
        counts: Counter[str] = Counter()
        for token, count in Counter(split_tokens(block)).items():
            if word := strip_punctuation(token):
                counts[word] += count
        num_words += counts.total()
        counter.add(pa.array(counts, pa.string()), pa.array(counts.values(), pa.int64()))
    frequent = [
        (word, count)
        for table in counter.totals(min_count)
        for word, count in zip(table["value"].to_pylist(), table["count"].to_pylist(), strict=True)
        if REPLACEMENT not in word
    ]
    frequent.sort(key=lambda item: (-item[1], item[0]))
    return WordCounts(dict(frequent), num_words)


def find_bigrams(
    blocks: Iterable[str], words: WordCounts, *, min_count: int, min_pmi: float, folder: Path
) -> list[Bigram]:
    """Return the bigrams of frequent words, those with the highest pointwise mutual information first.

    It is log2(count(a b) · N / (count(a) · count(b))) bits, with the number N of all words. No bigram of words with c
    occurrences reaches more than log2(N / c).

    Args:
        blocks: The text that the words are of.
        words: Words with at least `min_count` occurrences.
        folder: For what does not fit into memory; it must exist.
    """
    number_of = {word: number for number, word in enumerate(words.counts)}
    counter = SpillingCounter(folder, pa.int64())
    for block in blocks:
        key_U, count_U = np.unique(_pair_words(split_tokens(block), number_of), return_counts=True)
        counter.add(pa.array(key_U), pa.array(count_U, pa.int64()))
    texts, count_V = list(words.counts), np.array(list(words.counts.values()), np.float64)
    bigrams = []
    for table in counter.totals(min_count):
        first_K, second_K = np.divmod(table["value"].to_numpy(), max(1, len(texts)))
        count_K = table["count"].to_numpy()
        pmi_K = np.log2(count_K * words.num_words / (count_V[first_K] * count_V[second_K]))
        for index in np.flatnonzero(pmi_K >= min_pmi).tolist():
            text = _join_words(texts[first_K[index]], texts[second_K[index]])
            bigrams.append(Bigram(text, int(count_K[index]), float(pmi_K[index])))
    return sorted(bigrams, key=lambda bigram: (-bigram.pmi, bigram.text))


def is_punctuation(text: str) -> bool:
    """Return whether a text has nothing but punctuation and white space."""
    return not text.strip(_punctuation() + string.whitespace)


def _pair_words(tokens: list[str], number_of: Mapping[str, int]) -> NDArray[np.int64]:
    """Return first × vocabulary + second for all pairs of known words in a row without punctuation between them."""
    index_of = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    words = [strip_punctuation(token) for token in index_of]
    number_U = np.array([number_of.get(word, -1) for word in words], np.int64)
    begins_with_word_U = np.array(
        [token.startswith(word) for token, word in zip(index_of, words, strict=True)], np.bool_
    )
    ends_with_word_U = np.array([token.endswith(word) for token, word in zip(index_of, words, strict=True)], np.bool_)
    index_W = np.fromiter(map(index_of.__getitem__, tokens), np.int64, len(tokens))
    first_K, second_K = index_W[:-1], index_W[1:]
    number_K, next_number_K = number_U[first_K], number_U[second_K]
    is_pair_K = (number_K >= 0) & (next_number_K >= 0) & ends_with_word_U[first_K] & begins_with_word_U[second_K]
    return (number_K * len(number_of) + next_number_K)[is_pair_K]


def _join_words(first: str, second: str) -> str:
    """Return a bigram as captions have it: without a space if both sides are of a script without spaces."""
    return f"{first}{second}" if _is_unspaced(first[-1]) and _is_unspaced(second[0]) else f"{first} {second}"


def _is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in UNSPACED_RANGES)


@functools.cache
def _punctuation() -> str:
    """Return ASCII's punctuation, which includes symbols, and that of Unicode."""
    others = map(chr, range(128, 0x20000))  # there is none beyond
    return string.punctuation + "".join(char for char in others if unicodedata.category(char).startswith("P"))
