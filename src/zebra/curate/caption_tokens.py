"""Tokens of captions as 64-bit hashes, for whole blocks of text at a time.

A text is read as MetaCLIP reads it: each of the marks , . ; : ? ! ` gets a space on both sides, tabs and line breaks
become spaces, and one space is added at both ends. The stretches between two spaces are the tokens; between two spaces
in a row there is an empty one. In scripts that are written without spaces, each character is a token of its own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.errors import DataError

MARKS = (b",", b".", b";", b":", b"?", b"!", b"`")
SPACE, TAB, LINE_FEED, CARRIAGE_RETURN = b" \t\n\r"
END, JOINT = 0xFF, 0xFE
"""Bytes that UTF-8 does not use: the end of a text, and the boundaries of an unspaced character."""
UNSPACED_RANGES = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK and Kangxi radicals
    (0x2FF0, 0x2FFF),  # ideographic descriptions
    (0x3040, 0x30FF),  # hiragana and katakana, which MetaCLIP 2 leaves out
    (0x31F0, 0x31FF),  # katakana phonetic extensions
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK
    (0xF900, 0xFAFF),  # CJK compatibility
    (0x20000, 0x2EBEF),  # CJK extensions B to F
)
"""Code points of scripts without spaces between words (MetaCLIP 2, arXiv 2507.22062), in ascending order."""

_RANGE_FIRST, _RANGE_LAST = (np.array(side) for side in zip(*UNSPACED_RANGES, strict=True))
_MIN_LEAD_BYTE = 0xE0
"""Smallest first byte of the encoding of a code point from U+0800."""
_WORD_MASK = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
"""Mask of the first bytes of a little-endian word, by their number."""
_FACTORS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15], np.uint64)


@dataclass(frozen=True, slots=True)
class CaptionTokens:
    """The T tokens of a block of texts, in order."""

    hash_T: NDArray[np.uint64]
    """Hash of the bytes; 0 for tokens longer than the limit."""
    row_T: NDArray[np.int64]
    """The text that a token belongs to."""
    has_next_T: NDArray[np.bool_]
    """Whether the next token is of the same text."""
    has_space_after_T: NDArray[np.bool_] | None
    """Whether a space follows the token; None if one follows every token."""
    is_unspaced_T: NDArray[np.bool_] | None
    """Whether the token is a character of a script without spaces; None if none is."""


def tokenize(text: pa.Array, max_token_bytes: int | None = None) -> CaptionTokens:
    """Return the tokens of texts; null is an empty text.

    Args:
        max_token_bytes: Longer tokens are not hashed; None for no limit.

    Raises:
        DataError: A text is not UTF-8.
    """
    byte_B = _join_texts(text)
    lead_K = _find_unspaced(byte_B)
    if len(lead_K):
        byte_B = np.insert(byte_B, np.sort(np.append(lead_K, lead_K + _character_bytes(byte_B[lead_K]))), JOINT)
        lead_K = lead_K + 1 + 2 * np.arange(len(lead_K))
    is_separator_B = (byte_B == SPACE) | (byte_B == END) | (byte_B == TAB) | (byte_B == LINE_FEED)
    is_separator_B |= (byte_B == CARRIAGE_RETURN) | (byte_B == JOINT)
    (stop_T,) = np.nonzero(is_separator_B)
    start_T = np.append(0, stop_T + 1)[:-1]
    separator_T = byte_B[stop_T]
    (last_N,) = np.nonzero(separator_T == END)
    row_T = np.repeat(np.arange(len(text)), np.diff(last_N, prepend=-1))
    if not len(lead_K):
        hash_T = _hash_tokens(byte_B, start_T, stop_T, max_token_bytes)
        return CaptionTokens(hash_T, row_T, separator_T != END, None, None)

    is_joined_after_T = separator_T == JOINT
    is_joined_before_T = np.append(False, is_joined_after_T[:-1])
    # An empty stretch is a token only between two spaces, not beside an unspaced character.
    is_token_T = (stop_T > start_T) | ~(is_joined_before_T | is_joined_after_T)
    start_T, stop_T, row_T = start_T[is_token_T], stop_T[is_token_T], row_T[is_token_T]
    is_lead_B = np.zeros(len(byte_B), np.bool_)
    is_lead_B[lead_K] = True
    is_space_B = is_separator_B & (byte_B != JOINT)
    return CaptionTokens(
        _hash_tokens(byte_B, start_T, stop_T, max_token_bytes),
        row_T,
        np.append(row_T[1:] == row_T[:-1], False),
        is_space_B[stop_T] | np.append(is_space_B, False)[stop_T + 1],
        is_lead_B[start_T],
    )


def mix(value_T: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of each value by the finalizer of SplitMix64 (Steele et al. 2014), computed in place."""
    for shift, factor in ((30, _FACTORS[0]), (27, _FACTORS[1])):
        value_T ^= value_T >> np.uint64(shift)
        value_T *= factor
    value_T ^= value_T >> np.uint64(31)
    return value_T


def _join_texts(text: pa.Array) -> NDArray[np.uint8]:
    """Return the bytes of all texts, with END after each and spaces around marks."""
    text_with_ends = pc.binary_join_element_wise(text.cast(pa.binary()).fill_null(b""), bytes([END]), b"")
    data = text_with_ends.buffers()[2].to_pybytes() if len(text_with_ends) else b""
    if data.count(END) != len(text):
        raise DataError("a caption is not valid UTF-8. Encode the texts of the pool again.")
    for mark in MARKS:
        data = data.replace(mark, b" " + mark + b" ")
    return np.frombuffer(data, np.uint8)


def _find_unspaced(byte_B: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the positions of the first bytes of all characters of scripts without spaces."""
    (lead_K,) = np.nonzero((byte_B >= _MIN_LEAD_BYTE) & (byte_B < JOINT))
    if not len(lead_K):
        return lead_K
    lead, second, third, fourth = (byte_B.take(lead_K + offset, mode="clip").astype(np.int64) for offset in range(4))
    of_three = (lead & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F
    of_four = (lead & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | fourth & 0x3F
    code_K = np.where(_character_bytes(lead) == 3, of_three, of_four)
    range_K = np.searchsorted(_RANGE_FIRST, code_K, side="right") - 1
    return lead_K[(range_K >= 0) & (code_K <= _RANGE_LAST[range_K])]


def _character_bytes(lead_K: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of bytes of characters from U+0800 by the first of them."""
    return np.where(lead_K < 0xF0, 3, 4)


def _hash_tokens(
    byte_B: NDArray[np.uint8], start_T: NDArray[np.int64], stop_T: NDArray[np.int64], max_token_bytes: int | None
) -> NDArray[np.uint64]:
    """Return hashes that are distinct for tokens of the same length up to eight bytes, and random beyond."""
    # Eight bytes from any position, by overlapping views.
    padded_B = np.append(byte_B, np.zeros(8, np.uint8))
    word_B = np.ndarray(len(byte_B), "<u8", padded_B, strides=(1,))
    length_T = stop_T - start_T
    hash_T = word_B[start_T] & _WORD_MASK.take(length_T, mode="clip")
    hash_T += (length_T + 1).astype(np.uint64) * _FACTORS[2]
    mix(hash_T)
    longest = int(length_T.max(initial=0))
    limit = longest if max_token_bytes is None else min(longest, max_token_bytes)
    for offset in range(8, limit, 8):
        long_K = np.flatnonzero((length_T > offset) & (length_T <= limit))
        word_K = word_B[start_T[long_K] + offset] & _WORD_MASK.take(length_T[long_K] - offset, mode="clip")
        hash_T[long_K] = mix(hash_T[long_K] * _FACTORS[2] + word_K)
    if limit < longest:
        hash_T[length_T > limit] = 0
    return hash_T
