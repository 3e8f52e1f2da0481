"""Tokenizer and config files are read in bounded memory, or refused with their path."""

import gzip
import os

import pytest

from zebra.errors import WeightsError
from zebra.text import files
from zebra.text.files import read_json_object, read_text


@pytest.mark.parametrize("name", ["merges.txt", "merges.txt.gz"])
@pytest.mark.parametrize(("num_bytes", "is_read"), [(1000, True), (1001, False), (10**6, False)])
def test_text_is_read_up_to_the_limit(tmp_path, monkeypatch, name, num_bytes, is_read):
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 1000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"a" * num_bytes) if name.endswith(".gz") else b"a" * num_bytes)
    if is_read:
        assert read_text(path) == "a" * num_bytes
        return
    with pytest.raises(WeightsError, match=f"{name} has more than 1,000 bytes"):
        read_text(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("name", ["tokenizer.json", "merges.txt.gz"])
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(WeightsError, match="not a regular file"):
        read_text(tmp_path / name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1]", "1", "", "{", '{"a": ' + "9" * 5000 + "}"])
def test_anything_but_a_json_object_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json is not"):
        read_json_object(tmp_path / "config.json")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"b": ', "}")])
@pytest.mark.parametrize("depth", [files.MAX_JSON_DEPTH - 1, files.MAX_JSON_DEPTH, 100, 900])
def test_json_is_read_up_to_the_limit_of_nesting(tmp_path, opening, closing, depth):
    """Values of depth 900 can be parsed, but comparing or printing them may fail."""
    path = tmp_path / "config.json"
    path.write_text('{"a": ' + opening * depth + "1" + closing * depth + "}")
    if depth < files.MAX_JSON_DEPTH:
        assert read_json_object(path).keys() == {"a"}
        return
    with pytest.raises(WeightsError, match="nested more than 32 levels deep"):
        read_json_object(path)
