"""Validation of class names."""

import unicodedata

import numpy as np
import pytest

from zebra.errors import ConfigError
from zebra.text.bpe import BPETokenizer
from zebra.text.labels import read_labels, require_distinct_labels, validate_labels


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


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(["a tabby cat and a dog, a polish sausage"], 520, 16)


@pytest.mark.parametrize("pair", [("Cat", "cat"), ("cat", "cat "), ("tabby\tcat", "Tabby Cat"), ("A&amp;B", "a&b")])
def test_labels_that_are_one_text_to_the_model_are_refused(tokenizer, pair):
    with pytest.raises(ConfigError, match="are one text to the model"):
        require_distinct_labels(["dog", *pair], tokenizer)


def test_labels_that_differ_to_the_model_are_accepted(tokenizer):
    require_distinct_labels(["dog", "cat", "cat.", "cats", "c a t"], tokenizer)


def test_a_file_of_labels_has_one_name_per_line(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffT-shirt, tee shirt\r\n\r\n  café \n".encode())
    assert read_labels(path) == ["T-shirt, tee shirt", "café"]


@pytest.mark.parametrize(("data", "message"), [(b"\n \n", "contains no labels"), (b"caf\xe9", "it is not UTF-8")])
def test_a_file_without_readable_labels_is_refused(tmp_path, data, message):
    (tmp_path / "labels.txt").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_labels(tmp_path / "labels.txt")
    with pytest.raises(ConfigError, match="No such file"):
        read_labels(tmp_path / "missing.txt")
