"""CLIP's tokenizer: training, encoding, decoding and files."""

import copy
import gzip
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.presets import get_preset
from zebra.errors import ConfigError, DataError, WeightsError
from zebra.text import BPETokenizer, clean_text

CAPTIONS = [
    "a photo of a zebra on the grass",
    "A Horse with black and white stripes",
    "two spotted cats, one small dog &amp; a café",
    "it's a horse; they're not zebras",
    "東京の猫 and an emoji 🦓",
] * 4


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(CAPTIONS, vocab_size=600, context_length=32)


# Training


def test_training_reaches_the_requested_size_if_there_are_enough_pairs(tokenizer: BPETokenizer) -> None:
    assert tokenizer.vocab_size == 600


def test_start_and_end_are_the_two_highest_ids(tokenizer: BPETokenizer) -> None:
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id) == (598, 599)


def test_few_repetitions_give_a_smaller_vocabulary() -> None:
    assert BPETokenizer.train(["ab", "ab"], vocab_size=10_000).vocab_size == 514 + 1


@pytest.mark.parametrize("name", ["tiny-resnet", "tiny-vit", "tiny-naflex"])
def test_a_tiny_model_has_room_for_the_words_of_short_captions(name: str) -> None:
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    words = [first + second for first in syllables for second in syllables][:1500]
    names = [f"{first} {second}" for first, second in zip(words[::2], words[1::2], strict=True)]
    tokenizer = BPETokenizer.train(names * 2, get_preset(name).text.vocab_size, context_length=32)
    assert set(tokenizer.encode(names, truncate=False).lengths) == {4}  # start, two words, end


def test_the_smallest_vocabulary_has_no_merges() -> None:
    tokenizer = BPETokenizer.train(CAPTIONS, vocab_size=514)
    assert tokenizer.encode(["cat"], truncate=False).ids.tolist() == [[512, 66, 64, 256 + 83, 513]]


def test_a_vocabulary_without_room_for_every_byte_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size is 513; it must be at least 514"):
        BPETokenizer.train(CAPTIONS, vocab_size=513)


def test_another_process_trains_the_same_vocabulary(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    """Hash maps have a random seed per process, so only a second process shows a dependence on their order."""
    tokenizer.save(tmp_path / "first.json")
    second = tmp_path / "second.json"
    script = (
        "import json, sys; from zebra.text import BPETokenizer\n"
        "BPETokenizer.train(json.loads(sys.argv[1]), 600, 32).save(sys.argv[2])"
    )
    command = [sys.executable, "-c", script, json.dumps(CAPTIONS), str(second)]
    subprocess.run(command, check=True, env=os.environ)
    assert second.read_bytes() == (tmp_path / "first.json").read_bytes()


# Encoding


def test_rows_are_padded_to_the_longest_of_the_call(tokenizer: BPETokenizer) -> None:
    encoded = tokenizer.encode(["zebra", "", "a photo of a zebra"], truncate=False)
    assert encoded.ids.dtype == encoded.lengths.dtype == np.int64
    assert encoded.ids.shape == (3, encoded.lengths.max())
    for row, length in zip(encoded.ids, encoded.lengths, strict=True):
        assert row[0] == tokenizer.sot_token_id
        assert row.argmax() == length - 1
        assert row[length - 1] == tokenizer.eot_token_id
        assert not row[length:].any()


def test_an_empty_text_is_start_and_end(tokenizer: BPETokenizer) -> None:
    assert tokenizer.encode(["", "  \n"], truncate=False).ids.tolist() == [[598, 599]] * 2


def test_no_texts_give_no_rows(tokenizer: BPETokenizer) -> None:
    encoded = tokenizer.encode([], truncate=False)
    assert (encoded.ids.shape, encoded.lengths.shape, encoded.num_truncated) == ((0, 0), (0,), 0)


def test_the_text_of_a_control_token_is_ordinary_text(tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode(["a <|endoftext|> b"], truncate=False).ids[0]
    assert (ids == tokenizer.eot_token_id).sum() == 1
    assert tokenizer.decode(ids) == "a <| endoftext |> b"


def test_truncation_keeps_the_start_and_the_end_token(tokenizer: BPETokenizer) -> None:
    encoded = tokenizer.encode(["7 " * 40, "7 " * 30, "7"], truncate=True)
    seven = 256 + ord("7") - 33
    assert encoded.ids[0].tolist() == [tokenizer.sot_token_id, *[seven] * 30, tokenizer.eot_token_id]
    assert encoded.ids[1].tolist() == encoded.ids[0].tolist()
    assert encoded.num_truncated == 1


def test_a_text_that_is_too_long_is_refused_without_truncation(tokenizer: BPETokenizer) -> None:
    with pytest.raises(DataError, match=r"texts\[1\] '7 7 .*…' has 42 tokens, more than the context of 32"):
        tokenizer.encode(["7", "7 " * 40], truncate=False)


def test_a_bare_string_is_refused(tokenizer: BPETokenizer) -> None:
    with pytest.raises(ConfigError, match=r"single string, 'a zebra'; pass a list"):
        tokenizer.encode("a zebra", truncate=True)


@pytest.mark.parametrize("value", [None, float("nan"), b"bytes"])
def test_a_non_string_is_named_by_position(tokenizer: BPETokenizer, value: object) -> None:
    with pytest.raises(DataError, match=rf"texts\[1\] is .* {type(value).__name__}; pass strings only"):
        tokenizer.encode(["a", value], truncate=True)


@pytest.mark.parametrize("context_length", [1, 0, -3])
def test_a_context_without_room_for_start_and_end_is_refused(context_length: int) -> None:
    with pytest.raises(ConfigError, match="must be at least 2"):
        BPETokenizer([], context_length)


@given(st.lists(st.text(max_size=40), max_size=4))
def test_texts_do_not_influence_each_other(tokenizer: BPETokenizer, texts: list[str]) -> None:
    batch = tokenizer.encode(texts, truncate=True)
    for row, length, text in zip(batch.ids, batch.lengths, texts, strict=True):
        assert row[:length].tolist() == tokenizer.encode([text], truncate=True).ids[0].tolist()


# Decoding


@given(st.text())
def test_decoding_restores_the_clean_text_except_for_spaces(tokenizer: BPETokenizer, text: str) -> None:
    long_context = BPETokenizer(tokenizer._merges, context_length=10_000)
    decoded = long_context.decode(long_context.encode([text], truncate=False).ids[0])
    # U+0345 belongs to no word in CLIP's pattern, so it is dropped.
    assert decoded.replace(" ", "") == clean_text(text).replace(" ", "").replace("\u0345", "")


def test_decoding_stops_at_the_end_token(tokenizer: BPETokenizer) -> None:
    ids = tokenizer.encode(["red dog", "a much longer row of words"], truncate=False).ids[0]
    assert ids[-1] == 0
    assert tokenizer.decode(ids) == "red dog"


@pytest.mark.parametrize("index", [-1, 600])
def test_decoding_an_id_outside_the_vocabulary_is_refused(tokenizer: BPETokenizer, index: int) -> None:
    with pytest.raises(DataError, match=f"id {index} is not in the vocabulary of 600 symbols"):
        tokenizer.decode([index])


# Files


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_treats_control_tokens_in_text_the_same(tokenizer: BPETokenizer, duplicate: object) -> None:
    clone = duplicate(tokenizer)
    texts = ["a <|endoftext|> zebra"]
    expected = tokenizer.encode(texts, truncate=False).ids.tolist()
    assert clone.encode(texts, truncate=False).ids.tolist() == expected


def test_a_saved_tokenizer_is_loaded_from_its_file_or_directory(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    expected = tokenizer.encode(CAPTIONS[:5], truncate=False).ids.tolist()
    for path in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        loaded = BPETokenizer.load(path, context_length=32)
        assert loaded.encode(CAPTIONS[:5], truncate=False).ids.tolist() == expected


def test_other_libraries_get_the_same_ids_from_the_saved_file(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "  A Photo of\na ZEBRA, it's small 🦓 "
    assert reference.encode(text).ids == tokenizer.encode([text], truncate=False).ids[0].tolist()
    assert reference.encode("<|endoftext|>").ids == [598, 599, 599]


def test_merges_are_also_read_in_their_older_format(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert BPETokenizer.load(path).vocab_size == 600


def test_a_vocabulary_in_another_order_is_refused(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    vocab = document["model"]["vocab"]
    vocab["!"], vocab["a"] = vocab["a"], vocab["!"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(WeightsError, match="vocabulary that does not match"):
        BPETokenizer.load(path)


def rewrite_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_start_and_end_may_be_listed_only_as_added_tokens(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    rewrite_json(path, lambda document: [document["model"]["vocab"].popitem() for _ in range(2)])
    assert "<|endoftext|>" not in json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
    assert BPETokenizer.load(path).eot_token_id == 599


def test_missing_start_and_end_tokens_are_an_error(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    rewrite_json(path, lambda document: [document["model"]["vocab"].popitem(), document["added_tokens"].clear()])
    with pytest.raises(WeightsError, match="vocabulary that does not match"):
        BPETokenizer.load(path)


def test_an_added_padding_token_changes_no_text(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    """Some repositories declare "!" a special token, to pad with id 0."""
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    bang = {"id": 0, "content": "!", "single_word": False, "lstrip": False, "rstrip": False, "special": True}
    rewrite_json(path, lambda document: document["added_tokens"].append(bang | {"normalized": False}))
    text = ["a zebra!"]
    expected = tokenizer.encode(text, truncate=False).ids.tolist()
    assert BPETokenizer.load(path).encode(text, truncate=False).ids.tolist() == expected


@pytest.mark.parametrize(
    ("content", "index"),
    [("<cat-toy>", 10**12), ("<cat-toy>", -1), ("!", 10**12), ("x" * 10**6, 600), ("<cat-toy>", "600")],
)
def test_an_added_token_that_is_not_in_the_vocabulary_is_ignored_with_a_warning(
    tokenizer: BPETokenizer, tmp_path: Path, content: str, index: object
) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    rewrite_json(path, lambda document: document["added_tokens"].append({"id": index, "content": content}))
    with pytest.warns(UserWarning, match="1 added tokens are not in the vocabulary and are ignored") as warned:
        loaded = BPETokenizer.load(path, 32)
    assert len(str(warned[0].message)) < 400
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("added", [[1], ["x"], [{"content": "x"}], [{"id": 1}], {"a": 1}, 7])
def test_added_tokens_of_another_form_are_refused(tokenizer: BPETokenizer, tmp_path: Path, added: object) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    rewrite_json(path, lambda document: document.update(added_tokens=added))
    with pytest.raises(WeightsError, match="is not a tokenizer"):
        BPETokenizer.load(path)


def write_vocab_and_merges(tokenizer: BPETokenizer, directory: Path) -> tuple[Path, Path]:
    """Write vocab.json and merges.txt, the files of older repositories."""
    tokenizer.save(directory / "tokenizer.json")
    model = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (directory / "tokenizer.json").unlink()
    vocab_path, merges_path = directory / "vocab.json", directory / "merges.txt"
    vocab_path.write_text(json.dumps(model["vocab"]), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, model["merges"]), ""]
    merges_path.write_text("\n".join(lines), encoding="utf-8")
    return vocab_path, merges_path


def test_vocab_and_merges_files_give_the_original_tokenizer(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    loaded = BPETokenizer.from_files(*write_vocab_and_merges(tokenizer, tmp_path), 32)
    assert loaded.fingerprint == tokenizer.fingerprint


def test_merges_of_another_vocabulary_are_refused(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    vocab_path, merges_path = write_vocab_and_merges(tokenizer, tmp_path)
    merges_path.write_text("\n".join(merges_path.read_text(encoding="utf-8").split("\n")[:-2]), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"vocab\.json has a vocabulary that does not match its 85 merges"):
        BPETokenizer.from_files(vocab_path, merges_path)


def test_the_fingerprint_depends_on_vocabulary_and_context_length(tokenizer: BPETokenizer) -> None:
    merges = tokenizer._merges
    others = [BPETokenizer(merges[:-1], 32), BPETokenizer(merges, 33), BPETokenizer([], 32)]
    assert len({tokenizer.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert BPETokenizer(merges, 32).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"model": null}', b'{"model": {"vocab": {}, "merges": [1]}}', b"\xff\xfe{}",
     b'{"model": {"vocab": {}, "merges": ["a b c"]}}', b'{"model": {"vocab": {}, "merges": [["a", "zz"]]}}',
     b'{"model": {"vocab": [["a", -1.5]], "type": "Unigram"}}'],
)  # fmt: skip
def test_a_damaged_file_is_named_in_the_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        BPETokenizer.load(tmp_path)


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tokenizer file not found: .*tokenizer\.json"):
        BPETokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["merges.txt", "merges.txt.gz"])
def test_a_merges_file_is_read_below_its_header(tmp_path: Path, name: str) -> None:
    content = b"a header\nz e\nr a</w>\nze ra</w>\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    tokenizer = BPETokenizer.from_merges(tmp_path / name)
    assert tokenizer.vocab_size == 514 + 3
    assert tokenizer.context_length == 77
    assert tokenizer.encode(["zera era"], truncate=False).ids.tolist() == [[515, 514, 68, 513, 516]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("v\na b\na b c\n", r"merges\.txt:3: 'a b c' is not a pair of symbols"),
        ("v\na b\nab zz\n", r"merges\.txt: merge 2 joins 'ab' and 'zz', but 'zz' does not exist"),
        ("v\na b\na b\n", r"merges\.txt: merge 2 produces 'ab', which already exists"),
    ],
)
def test_a_damaged_merges_file_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "merges.txt").write_text(content)
    with pytest.raises(WeightsError, match=message):
        BPETokenizer.from_merges(tmp_path / "merges.txt")


def test_a_truncated_merges_file_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(gzip.compress(b"v\n" + b"a b\n" * 1000)[:-12])
    with pytest.raises(WeightsError, match=r"cannot read .*merges\.txt\.gz"):
        BPETokenizer.from_merges(path)
