"""Texts as words in, rows of token ids out; a word that was met before is not encoded again."""

from collections.abc import Callable, Mapping, Sequence

MOST_WORDS = 2**17
"""Remembered; a call that finds more begins anew."""


class WordMemory:
    """The ids of the words met so far; any thread may ask."""

    def __init__(self, encode: Callable[[list[str]], list[list[int]]]) -> None:
        """Begin without any.

        Args:
            encode: Gives the ids of words, each by itself.
        """
        self._encode = encode
        self._known: dict[str, list[int]] = {}

    def rows(self, texts: Sequence[Sequence[str]], start: int, end: int) -> list[list[int]]:
        """Return the ids of each text's words, one behind the other, between those of its start and end."""
        known = self._known = self._known if len(self._known) <= MOST_WORDS else {}
        try:
            return _joined(known, texts, start, end)
        except KeyError:
            fresh = [
                word for word in dict.fromkeys(word for text in texts for word in text) if word not in known
            ]
            known.update(zip(fresh, self._encode(fresh), strict=True))
            return _joined(known, texts, start, end)


def _joined(
    known: Mapping[str, list[int]], texts: Sequence[Sequence[str]], start: int, end: int
) -> list[list[int]]:
    rows = []
    for text in texts:
        row = [start]
        for word in text:
            row += known[word]
        row.append(end)
        rows.append(row)
    return rows
