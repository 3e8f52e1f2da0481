"""A cache of the token ids of words."""

from collections.abc import Callable, Mapping, Sequence

MAX_WORDS = 2**17
"""Maximum cached words; a call that finds more clears the cache."""


class WordCache:
    """A thread-safe cache of token ids by word."""

    def __init__(self, encode_words: Callable[[list[str]], list[list[int]]]) -> None:
        """Create an empty cache.

        Args:
            encode_words: Returns the ids of words, each encoded separately.
        """
        self._encode_words = encode_words
        self._ids_by_word: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[Sequence[str]], start_id: int, end_id: int) -> list[list[int]]:
        """Return the ids of the words of each text, between `start_id` and `end_id`."""
        ids_by_word = self._ids_by_word = self._ids_by_word if len(self._ids_by_word) <= MAX_WORDS else {}
        try:
            return _concatenate_ids(ids_by_word, texts, start_id, end_id)
        except KeyError:
            new_words = [
                word for word in dict.fromkeys(word for text in texts for word in text) if word not in ids_by_word
            ]
            ids_by_word.update(zip(new_words, self._encode_words(new_words), strict=True))
            return _concatenate_ids(ids_by_word, texts, start_id, end_id)


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
