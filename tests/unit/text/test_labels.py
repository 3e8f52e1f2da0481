"""Validation of class names."""

import unicodedata

import numpy as np
import pytest

from zebra.errors import ConfigError
from zebra.text.labels import validate_labels


def test_labels_are_returned_as_they_are_written():
    assert validate_labels(np.array(["Cat", "cat", " dog "])) == ["Cat", "cat", " dog "]


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "cat"],
        ["cat", "cat "],
        ["tabby cat", "tabby  cat"],
        ["tabby cat", "tabby\u00a0cat"],
        [unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")],
    ],
)
def test_one_name_twice_is_refused(labels):
    with pytest.raises(ConfigError, match=r"labels are repeated: 'c|labels are repeated: 't"):
        validate_labels([*labels, "dog"])


@pytest.mark.parametrize(("labels", "message"), [([], "no labels"), (["cat", "\t"], "empty label"), ("cat", "a list")])
def test_no_label_an_empty_label_and_a_single_text_are_refused(labels, message):
    with pytest.raises(ConfigError, match=message):
        validate_labels(labels)
