"""Classes whose texts have the same tokens are found, and only those."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.text.bpe import BPETokenizer
from zebra.text.equal_texts import find_equal_texts

TOKENIZER = BPETokenizer.train(["a photo of a horse, a cat and a turkey"] * 3, 540, 12)


@pytest.mark.parametrize(
    ("texts_by_class", "expected"),
    [
        ([["Turkey"], ["zebra"], ["turkey"]], [0, 1, 0]),
        ([["cat "], ["  cat"], ["cat\n"]], [0, 0, 0]),
        ([["a", "b"], ["a", "c"], ["A", "b"]], [0, 1, 0]),  # the first texts are equal, the others decide
        ([["a"], ["a", "a"]], [0, 1]),
        ([[""], [" "], ["a"]], [0, 0, 2]),
        ([["horse " * 40 + "a"], ["horse " * 40 + "b"]], [0, 0]),  # one text after truncation
        ([["caf\u00e9"], ["cafe\u0301"]], [0, 0]),
        ([["x"]], [0]),
    ],
)
def test_the_first_class_with_the_same_tokens_is_found(texts_by_class, expected):
    assert find_equal_texts(TOKENIZER, texts_by_class) == expected


@given(st.lists(st.lists(st.sampled_from(["a", "A", "b", "a photo"]), min_size=1, max_size=3), min_size=1, max_size=8))
def test_equal_classes_are_those_with_equal_lower_case_texts(texts_by_class):
    keys = [tuple(text.lower() for text in texts) for texts in texts_by_class]
    assert find_equal_texts(TOKENIZER, texts_by_class) == [keys.index(key) for key in keys]
