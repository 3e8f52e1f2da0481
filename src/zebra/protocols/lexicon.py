"""Recognition of words from a lexicon of candidates (CLIP Table 14)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError


def choose_words(
    image_NE: NDArray[np.float32], word_ME: NDArray[np.float32], lexicons: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the most similar word [N] of each image's own lexicon; of equal ones, the first in the lexicon.

    Args:
        image_NE: Unit vectors of the images.
        word_ME: Unit vectors of all words.
        lexicons: Words that each image may show, as rows of `word_ME`.

    Raises:
        DataError: An image has no lexicon, or a vector is NaN.
    """
    if len(lexicons) != len(image_NE) or not all(len(words) for words in lexicons):
        raise DataError(f"{len(image_NE)} images need as many lexicons of at least one word; got {len(lexicons)}")
    if np.isnan(image_NE).any() or np.isnan(word_ME).any():
        raise DataError("a vector is NaN. The model has diverged.")
    return np.array(
        [words[int((word_ME[words] @ image_E).argmax())] for image_E, words in zip(image_NE, lexicons, strict=True)]
    )
