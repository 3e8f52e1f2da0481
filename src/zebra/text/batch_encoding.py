"""Ragged rows of token ids in, one padded array out; what every tokenizer checks and cuts in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.errors import ConfigError, DataError

Side = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of texts as token ids."""

    ids: NDArray[np.int64]
    """int64 [N, L]. CLIP: SOT … EOT, then 0 up to the longest row of this batch; SigLIP: as long as the context."""
    lengths: NDArray[np.int64]
    """int64 [N], the tokens of each row without its padding, start and end included."""
    truncated: int
    """How many texts were cut to the context length."""


def check_texts(texts: Sequence[str]) -> None:
    """Make sure that `texts` is a list of strings.

    Raises:
        ConfigError: It is one string.
        DataError: An element is not a string.
    """
    if isinstance(texts, str):
        raise ConfigError(f"texts is the single string {_short(texts)}; pass a list: [text]")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{position}] is {text!r}, a {type(text).__name__}; pass strings only")


def cut_rows(rows: list[list[int]], texts: Sequence[str], limit: int, *, end: int, truncate: bool) -> int:
    """Shorten rows over `limit` in place, their last id becoming `end`, and return how many there were.

    Raises:
        DataError: There is one and `truncate` is false.
    """
    over = [position for position, row in enumerate(rows) if len(row) > limit]
    if over and not truncate:
        raise DataError(
            f"texts[{over[0]}] {_short(texts[over[0]])} has {len(rows[over[0]])} tokens, more than the "
            f"context of {limit}; shorten it, or pass truncate=True to cut it"
        )
    for position in over:
        rows[position] = [*rows[position][: limit - 1], end]
    return len(over)


def pad_rows(
    rows: Sequence[Sequence[int]], width: int | None = None, *, pad: int = 0, side: Side = "right"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows as one array int64 [N, L], L `width` or the longest row, and their lengths int64 [N]."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    width = int(lengths.max(initial=0)) if width is None else width
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    place = np.arange(width)
    filled = place < lengths[:, None] if side == "right" else place >= width - lengths[:, None]
    ids[filled] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return ids, lengths


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
