"""Batches of token ids: validation, truncation and padding for all tokenizers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError, DataError

PaddingSide = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class BatchEncoding:
    """A batch of texts as token ids."""

    ids: NDArray[np.int64]
    """int64 [N, L]. CLIP: SOT … EOT, padded with 0 to the longest row of the batch; others: L is the context length."""
    lengths: NDArray[np.int64]
    """int64 [N], tokens per row without padding, including start and end."""
    num_truncated: int
    """Number of texts that were truncated to the context length."""


def check_texts(texts: Sequence[str]) -> None:
    """Check that `texts` is a list of strings.

    Raises:
        ConfigError: If it is a single string.
        DataError: If an element is not a string.
    """
    if isinstance(texts, str):
        raise ConfigError(f"texts is a single string, {_abbreviate(texts)}; pass a list: [text]")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{position}] is {text!r} of type {type(text).__name__}; pass strings only")


def truncate_rows(
    rows: list[list[int]], texts: Sequence[str], max_length: int, *, suffix: Sequence[int], truncate: bool
) -> int:
    """Truncate rows to `max_length` in place, with `suffix` as the last ids; return how many were truncated.

    Raises:
        DataError: If a row is too long and `truncate` is false.
    """
    too_long = [position for position, row in enumerate(rows) if len(row) > max_length]
    if too_long and not truncate:
        raise DataError(
            f"texts[{too_long[0]}] {_abbreviate(texts[too_long[0]])} has {len(rows[too_long[0]])} tokens, more than "
            f"the context of {max_length}; shorten it, or pass truncate=True"
        )
    for position in too_long:
        rows[position] = [*rows[position][: max_length - len(suffix)], *suffix]
    return len(too_long)


def pad_rows(
    rows: Sequence[Sequence[int]], length: int | None = None, *, pad_id: int = 0, padding_side: PaddingSide = "right"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows as one int64 array [N, L] and their lengths, int64 [N]; L is `length` or the longest row."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    length = int(lengths.max(initial=0)) if length is None else length
    ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    position = np.arange(length)
    is_token = position < lengths[:, None] if padding_side == "right" else position >= length - lengths[:, None]
    ids[is_token] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return ids, lengths


def _abbreviate(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
