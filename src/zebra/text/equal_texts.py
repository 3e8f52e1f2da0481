"""Find texts that a tokenizer cannot tell apart, such as "Turkey" and "turkey"."""

from collections import Counter
from collections.abc import Sequence

from zebra.text.tokenizers import Tokenizer


def find_equal_texts(tokenizer: Tokenizer, texts_by_class: Sequence[Sequence[str]]) -> list[int]:
    """Return for each class the index of the first class whose texts have the same tokens.

    Args:
        texts_by_class: At least one text per class, for instance all its prompts. Texts longer than the context are
            truncated, as for the model.
    """
    first_tokens = _encode(tokenizer, [texts[0] for texts in texts_by_class])
    counts = Counter(first_tokens)
    candidates = [index for index, tokens in enumerate(first_tokens) if counts[tokens] > 1]
    all_tokens = iter(_encode(tokenizer, [text for index in candidates for text in texts_by_class[index]]))
    first_index: dict[tuple[bytes, ...], int] = {}
    result = list(range(len(texts_by_class)))
    for index in candidates:
        tokens_of_class = tuple(next(all_tokens) for _ in texts_by_class[index])
        result[index] = first_index.setdefault(tokens_of_class, index)
    return result


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[bytes]:
    """Return the token ids of each text as bytes; all rows of one call have the same length."""
    return [row.tobytes() for row in tokenizer.encode(texts, truncate=True).ids] if texts else []
