"""Rules for captions."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.curate_text import TextRules
from zebra.curate.partitions import compute_digests, find_among_equal, find_more_frequent
from zebra.curate.rules import PairRule, PoolReader, PoolRule, Rule

STAGE = "text"
_NAME_PATTERNS = {
    "caption is a file name": r"^[^\s/\\]+\.(jpe?g|jpe|jfif|png|gif|bmp|webp|tiff?|heic|heif|avif|svg|pdf)$",
    "caption is a URL": r"^([a-z][a-z0-9+.-]*://|www\.)\S+$",
    "caption is a hash or a number": r"^([0-9a-f]{16,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\pN\pP\s$+<=>^`|~]+|"
    r"(img|dsc|dscn|dscf|pict?|photo|image|screenshot|scan)[\s_-]*[\d_-]+)$",
}
"""Reason → pattern of the lower-case caption."""


def text_rules(config: TextRules) -> list[Rule]:
    """Return the rules of a config, cheapest first."""
    rules: list[Rule] = []

    def add(reason: str, find: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> None:
        rules.append(PairRule(STAGE, reason, ("text",), lambda table: find(pc.utf8_trim_whitespace(table["text"]))))

    if config.min_chars:
        rules.append(_length_rule(f"caption under {config.min_chars} characters", pc.less, config.min_chars))
    if config.max_chars is not None:
        rules.append(_length_rule(f"caption over {config.max_chars:,} characters", pc.greater, config.max_chars))
    if config.min_words:
        add(f"caption under {config.min_words} words", lambda text: pc.less(count_words(text), config.min_words))
    if config.max_words is not None:
        add(f"caption over {config.max_words} words", lambda text: pc.greater(count_words(text), config.max_words))
    if config.drop_names:
        for reason, pattern in _NAME_PATTERNS.items():
            add(reason, partial(_matches, pattern=pattern))
    for phrase in config.boilerplate:
        add(f"caption contains {phrase!r}", partial(pc.match_substring, pattern=phrase, ignore_case=True))
    if config.max_repetition < 1:
        add(
            f"caption repeats over {config.max_repetition:.0%} of its words",
            lambda text: pc.greater(repetition(text), config.max_repetition),
        )
    if config.max_frequency is not None:
        rules.append(
            PoolRule(
                STAGE,
                f"caption of over {config.max_frequency:,} pairs",
                ("text",),
                partial(_find_frequent, limit=config.max_frequency),
            )
        )
    return rules


def _length_rule(reason: str, compare: Callable[[pa.ChunkedArray, int], pa.ChunkedArray], limit: int) -> PairRule:
    return PairRule(STAGE, reason, ("text",), lambda table: compare(pc.utf8_length(table["text"]), limit))


def _matches(text: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.match_substring_regex(pc.utf8_lower(text), pattern)


def count_words(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the number of words separated by white space, of trimmed texts."""
    num_parts = pc.list_value_length(pc.utf8_split_whitespace(text))
    return pc.if_else(pc.equal(pc.utf8_length(text), 0), 0, num_parts)


def repetition(text: pa.ChunkedArray) -> pa.Array:
    """Return the fraction of words, in lower case, that occur earlier in their text; 0 for a text without words."""
    words = pa.chunked_array(pc.utf8_split_whitespace(pc.utf8_lower(text))).combine_chunks()
    row_W = words.value_parent_indices().to_numpy()
    code_W = words.flatten().dictionary_encode().indices.to_numpy()
    num_words_N = np.bincount(row_W, minlength=len(words))
    word_W = np.sort(row_W.astype(np.int64) << 32 | code_W)
    is_new_W = np.append(True, word_W[1:] != word_W[:-1])[: len(word_W)]
    num_distinct_N = np.bincount(word_W[is_new_W] >> 32, minlength=len(words))
    return pa.array((num_words_N - num_distinct_N) / np.maximum(num_words_N, 1))


def normalize_captions(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return captions in lower case, with runs of punctuation and white space as one space."""
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(text), r"[\pP\pS\s]+", " "))


def _find_frequent(reader: PoolReader, limit: int) -> Iterator[NDArray[np.bool_]]:
    """Yield which captions occur in more than `limit` pairs."""
    return find_among_equal(reader, _caption_keys, partial(find_more_frequent, limit=limit))


def _caption_keys(table: pa.Table) -> pa.Table:
    return pa.table({"digest": compute_digests(normalize_captions(table["text"]))})
