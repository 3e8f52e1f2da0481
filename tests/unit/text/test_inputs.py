"""Texts in every form that callers pass."""

import numpy as np
import pytest

from zebra.errors import ConfigError
from zebra.text.inputs import list_texts


@pytest.mark.parametrize(
    "texts",
    [
        ["a", "b"],
        ("a", "b"),
        iter("ab"),
        np.array(["a", "b"]),
        np.array(["a", "b"], object),
        {"a": 1, "b": 2}.keys().__iter__(),
    ],
)
def test_every_ordered_iterable_of_texts_becomes_a_list_of_str(texts) -> None:
    result = list_texts(texts, "labels")
    assert result == ["a", "b"]
    assert all(type(text) is str for text in result)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("cat", r"labels must be a list of texts. Put a single text in \[ \]"),
        ({"cat", "dog"}, "labels must be a list or another ordered iterable of texts, not set"),
        ({"cat": 1}, "not dict"),
        (b"cat", "not bytes"),
        (None, "not NoneType"),
        ([0, 1], r"labels\[0\] is 0 \(int\), not a text"),
        (np.array([0, 1]), r"labels\[0\] is 0 \(int64\), not a text"),
        (["cat", float("nan")], r"labels\[1\] is nan \(float\), not a text"),
        (["cat", None], r"labels\[1\] is None"),
        ([b"cat"], r"labels\[0\] is b'cat' \(bytes\), not a text"),
    ],
)
def test_what_is_no_text_is_an_error_that_names_argument_and_index(texts, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list_texts(texts, "labels")
