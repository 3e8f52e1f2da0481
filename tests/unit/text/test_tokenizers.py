"""Finding and loading the tokenizer of a model."""

import gzip
import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models

from zebra.errors import WeightsError
from zebra.text import BPETokenizer, SiglipTokenizer, Tokenizer, find_tokenizer, load_tokenizer

CLIP = BPETokenizer([("z", "e"), ("r", "a</w>"), ("ze", "b"), ("zeb", "ra</w>")], 16)


def write_siglip_json(directory: Path) -> Path:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("z", -1.0)]
    tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2)).save(str(directory / "tokenizer.json"))
    return directory / "tokenizer.json"


def write_clip_json(directory: Path) -> Path:
    CLIP.save(directory / "tokenizer.json")
    return directory / "tokenizer.json"


def write_vocab_and_merges(directory: Path, num_pairs: int = 3) -> None:
    shorter = BPETokenizer(CLIP._merges[:num_pairs], 16)
    vocab = {symbol: index for index, symbol in enumerate(shorter._symbols)}
    (directory / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, shorter._merges), ""]
    (directory / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def write_openai_merges(directory: Path, num_pairs: int = 2) -> Path:
    lines = ["header", *map(" ".join, CLIP._merges[:num_pairs]), ""]
    path = directory / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8")))
    return path


def num_merges(tokenizer: Tokenizer | None) -> int:
    assert isinstance(tokenizer, BPETokenizer)
    return tokenizer.vocab_size - 514


def test_clip_and_siglip_files_are_told_apart_by_their_contents(tmp_path: Path) -> None:
    assert isinstance(load_tokenizer(write_clip_json(tmp_path), 16), BPETokenizer)
    assert isinstance(load_tokenizer(write_siglip_json(tmp_path), 16), SiglipTokenizer)


def test_the_context_length_is_an_argument(tmp_path: Path) -> None:
    assert load_tokenizer(write_clip_json(tmp_path), 16).context_length == 16
    assert load_tokenizer(write_siglip_json(tmp_path), 16).context_length == 16


def test_a_directory_is_searched_in_a_fixed_order(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path, 16) is None
    write_openai_merges(tmp_path)
    assert num_merges(find_tokenizer(tmp_path, 16)) == 2
    write_vocab_and_merges(tmp_path)
    assert num_merges(find_tokenizer(tmp_path, 16)) == 3
    write_clip_json(tmp_path)
    assert num_merges(find_tokenizer(tmp_path, 16)) == 4


def test_a_vocabulary_without_merges_is_ignored(tmp_path: Path) -> None:
    write_vocab_and_merges(tmp_path)
    (tmp_path / "merges.txt").unlink()
    assert find_tokenizer(tmp_path, 16) is None


def test_the_tokenizer_beside_a_model_file_is_found(tmp_path: Path) -> None:
    write_openai_merges(tmp_path)
    assert num_merges(find_tokenizer(tmp_path / "ViT-B-32.pt", 16)) == 2


def test_the_path_may_be_a_tokenizer_file(tmp_path: Path) -> None:
    write_vocab_and_merges(tmp_path)
    assert num_merges(find_tokenizer(tmp_path / "merges.txt", 16)) == 3
    assert num_merges(find_tokenizer(write_openai_merges(tmp_path), 16)) == 2
    assert num_merges(find_tokenizer(write_clip_json(tmp_path), 16)) == 4


def test_a_missing_tokenizer_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="tokenizer file not found"):
        find_tokenizer(tmp_path / "tokenizer.json", 16)


def test_a_damaged_file_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    write_openai_merges(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        find_tokenizer(tmp_path, 16)


def test_a_saved_tokenizer_of_either_kind_is_loaded(tmp_path: Path) -> None:
    for path in (write_clip_json(tmp_path), write_siglip_json(tmp_path)):
        tokenizer = load_tokenizer(path, 16)
        tokenizer.save(path)
        assert load_tokenizer(path, 16).fingerprint == tokenizer.fingerprint
