"""Texts are found whether they are pending or merged."""

import pytest

from zebra.embed import hash_index
from zebra.embed.hash_index import HashIndex


@pytest.mark.parametrize("merge", [1, 7, 10_000])
def test_every_text_is_found_with_all_its_rows_in_order(monkeypatch, merge):
    monkeypatch.setattr(hash_index, "MIN_MERGE_SIZE", merge)
    index = HashIndex()
    for first in range(0, 400, 10):
        index.add([f"text {(first + i) % 150}" for i in range(10)], first)
    for number in range(150):
        assert list(index.find_rows(f"text {number}")) == list(range(number, 400, 150))
    assert not list(index.find_rows("text 150"))


def test_texts_with_the_same_first_half_of_a_hash_are_distinguished(monkeypatch):
    monkeypatch.setattr(hash_index, "MIN_MERGE_SIZE", 1)
    monkeypatch.setattr(hash_index, "hash_text", lambda text: b"12345678" + text.encode())
    index = HashIndex()
    index.add(["aaaaaaaa", "bbbbbbbb", "cccccccc"], 0)
    assert list(index.find_rows("bbbbbbbb")) == [1]
    assert not list(index.find_rows("dddddddd"))
