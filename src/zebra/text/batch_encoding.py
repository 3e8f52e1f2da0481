"""Ragged rows of token ids in, one padded array out; what every tokenizer checks and cuts in the same way."""

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
    """int64 [N, L]. CLIP: SOT … EOT, then 0 up to the longest row of this batch; SigLIP: as long as the context."""
    lengths: NDArray[np.int64]
    """int64 [N], the tokens of each row without its padding, start and end included."""
    num_truncated: int
    """How many texts were cut to the context length."""


def check_texts(texts: Sequence[str]) -> None:
    """Make sure that `texts` is a list of strings.

    Raises:
        ConfigError: It is one string.
        DataError: An element is not a string.
    """
    if isinstance(texts, str):
        raise ConfigError(f"texts is the single string {_abbreviate(texts)}; pass a list: [text]")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{position}] is {text!r}, a {type(text).__name__}; pass strings only")


def truncate_rows(
    rows: list[list[int]], texts: Sequence[str], max_length: int, *, end_id: int, truncate: bool
) -> int:
    """Shorten rows over `max_length` in place, their last id becoming `end_id`, and return how many there were.

    Raises:
        DataError: There is one and `truncate` is false.
    """
    over = [position for position, row in enumerate(rows) if len(row) > max_length]
    if over and not truncate:
        raise DataError(
            f"texts[{over[0]}] {_abbreviate(texts[over[0]])} has {len(rows[over[0]])} tokens, more than the "
            f"context of {max_length}; shorten it, or pass truncate=True to cut it"
        )
    for position in over:
        rows[position] = [*rows[position][: max_length - 1], end_id]
    return len(over)


def pad_rows(
    rows: Sequence[Sequence[int]],
    length: int | None = None,
    *,
    pad_id: int = 0,
    padding_side: PaddingSide = "right",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows as one array int64 [N, L], L `length` or the longest row, and their lengths int64 [N]."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    length = int(lengths.max(initial=0)) if length is None else length
    ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    place = np.arange(length)
    filled = place < lengths[:, None] if padding_side == "right" else place >= length - lengths[:, None]
    ids[filled] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return ids, lengths


def _abbreviate(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
