"""Texts as words in, rows of token ids out; a word that was met before is not encoded again."""

from collections.abc import Callable, Mapping, Sequence

MAX_WORDS = 2**17
"""Remembered; a call that finds more begins anew."""


class WordCache:
    """The ids of the words met so far; any thread may ask."""

    def __init__(self, encode_words: Callable[[list[str]], list[list[int]]]) -> None:
        """Begin without any.

        Args:
            encode_words: Gives the ids of words, each by itself.
        """
        self._encode_words = encode_words
        self._ids_by_word: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[Sequence[str]], start_id: int, end_id: int) -> list[list[int]]:
        """Return the ids of each text's words, one behind the other, between those of its start and end."""
        known = self._ids_by_word = self._ids_by_word if len(self._ids_by_word) <= MAX_WORDS else {}
        try:
            return _concatenate_ids(known, texts, start_id, end_id)
        except KeyError:
            fresh = [
                word for word in dict.fromkeys(word for text in texts for word in text) if word not in known
            ]
            known.update(zip(fresh, self._encode_words(fresh), strict=True))
            return _concatenate_ids(known, texts, start_id, end_id)


def _concatenate_ids(
    ids_by_word: Mapping[str, list[int]], texts: Sequence[Sequence[str]], start_id: int, end_id: int
) -> list[list[int]]:
    rows = []
    for text in texts:
        row = [start_id]
        for word in text:
            row += ids_by_word[word]
        row.append(end_id)
        rows.append(row)
    return rows
