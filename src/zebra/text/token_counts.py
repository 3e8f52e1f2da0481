"""Counts of unknown tokens, parts of characters and truncated texts."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
"""SentencePiece's fallback for a byte of a character without a token."""
MAX_UNCOVERED = 0.05
"""Larger shares of tokens without meaning are worth a note."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Counts over the tokens of texts, without truncation. Start, end and padding tokens count for `lengths` only."""

    lengths: NDArray[np.int64]
    """int64 [N], tokens of each text with start and end."""
    context_length: int
    num_tokens: int
    """Tokens of the texts alone."""
    num_unknown: int
    """Unknown tokens, each of which replaces a word or a character."""
    num_fragments: int
    """Tokens of bytes that are no whole character."""

    @property
    def num_truncated(self) -> int:
        """Number of texts that are longer than the context."""
        return int((self.lengths > self.context_length).sum())

    @property
    def num_lost(self) -> int:
        """Number of tokens that truncation drops."""
        return int((self.lengths - self.context_length).clip(min=0).sum())

    def describe_coverage(self, language: str = "") -> tuple[str, ...]:
        """Return a note if many tokens have no meaning of their own, else ()."""
        shares = [
            f"{count / self.num_tokens:.0%} of the tokens are {kind}"
            for count, kind in ((self.num_unknown, "unknown"), (self.num_fragments, "parts of characters"))
            if count > MAX_UNCOVERED * self.num_tokens
        ]
        if not shares:
            return ()
        prefix = f"{language}: " if language else ""
        return (
            f"{prefix}{' and '.join(shares)}, so the score says more about the tokenizer than about the rest of the "
            "model",
        )

    def describe_truncation(self, language: str = "") -> tuple[str, ...]:
        """Return a note if texts are truncated, else ()."""
        if not self.num_truncated:
            return ()
        prefix = f"{language}: " if language else ""
        return (
            f"{prefix}{self.num_truncated:,} of {len(self.lengths):,} texts are longer than the context of "
            f"{self.context_length} tokens; {self.num_lost / max(1, int(self.lengths.sum())):.0%} of all tokens are "
            "cut off",
        )


def count_tokens(
    rows: Sequence[Sequence[int]],
    context_length: int,
    *,
    num_special: int,
    unknown_ids: Iterable[int],
    fragment_ids: Iterable[int],
) -> TokenCounts:
    """Count the tokens of rows that are not truncated.

    Args:
        rows: Ids of each text, with its start and end tokens.
        context_length: Maximum length of a row.
        num_special: Start and end tokens of each row.
        unknown_ids: Ids of unknown tokens.
        fragment_ids: Ids of tokens that are parts of characters.
    """
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    ids = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]) if rows else np.empty(0, np.int64)
    return TokenCounts(
        lengths,
        context_length,
        num_tokens=int(lengths.sum()) - num_special * len(rows),
        num_unknown=int(np.isin(ids, list(unknown_ids)).sum()),
        num_fragments=int(np.isin(ids, list(fragment_ids)).sum()),
    )


def is_byte_token(symbol: str) -> bool:
    """Return whether an entry of a vocabulary stands for one byte, such as `<0xE4>`."""
    return _BYTE_TOKEN.fullmatch(symbol) is not None


def is_part_of_character(data: bytes) -> bool:
    """Return whether bytes are not a sequence of whole characters in UTF-8.

    >>> is_part_of_character("дом".encode()), is_part_of_character("д".encode()[:1])
    (False, True)
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False
