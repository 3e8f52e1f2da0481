"""A folder, a model's file or a tokenizer's file leads to the tokenizer, in a fixed order."""

import gzip
import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models

from zebra.errors import WeightsError
from zebra.text import BPETokenizer, SiglipTokenizer, Tokenizer, find_tokenizer, load_tokenizer

CLIP = BPETokenizer([("z", "e"), ("r", "a</w>"), ("ze", "b"), ("zeb", "ra</w>")], 16)


def write_json_of_siglip(folder: Path) -> Path:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("z", -1.0)]
    tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2)).save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def write_json_of_clip(folder: Path) -> Path:
    CLIP.save(folder / "tokenizer.json")
    return folder / "tokenizer.json"


def write_slow_files(folder: Path, merges: int = 3) -> None:
    shorter = BPETokenizer(CLIP._merges[:merges], 16)
    vocabulary = {symbol: index for index, symbol in enumerate(shorter._symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, shorter._merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def write_published(folder: Path, merges: int = 2) -> Path:
    lines = ["header", *map(" ".join, CLIP._merges[:merges]), ""]
    path = folder / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-8")))
    return path


def num_merges(words: Tokenizer | None) -> int:
    assert isinstance(words, BPETokenizer)
    return words.vocab_size - 514


def test_clips_file_is_told_from_siglips_by_what_it_holds(tmp_path: Path) -> None:
    assert isinstance(load_tokenizer(write_json_of_clip(tmp_path), 16), BPETokenizer)
    assert isinstance(load_tokenizer(write_json_of_siglip(tmp_path), 16), SiglipTokenizer)


def test_the_context_length_is_the_callers(tmp_path: Path) -> None:
    assert load_tokenizer(write_json_of_clip(tmp_path), 16).context_length == 16
    assert load_tokenizer(write_json_of_siglip(tmp_path), 16).context_length == 16


def test_a_folder_is_searched_in_a_fixed_order(tmp_path: Path) -> None:
    assert find_tokenizer(tmp_path, 16) is None
    write_published(tmp_path)
    assert num_merges(find_tokenizer(tmp_path, 16)) == 2
    write_slow_files(tmp_path)
    assert num_merges(find_tokenizer(tmp_path, 16)) == 3
    write_json_of_clip(tmp_path)
    assert num_merges(find_tokenizer(tmp_path, 16)) == 4


def test_a_vocabulary_without_its_merges_is_passed_over(tmp_path: Path) -> None:
    write_slow_files(tmp_path)
    (tmp_path / "merges.txt").unlink()
    assert find_tokenizer(tmp_path, 16) is None


def test_a_models_file_leads_to_what_lies_beside_it(tmp_path: Path) -> None:
    write_published(tmp_path)
    assert num_merges(find_tokenizer(tmp_path / "ViT-B-32.pt", 16)) == 2


def test_a_tokenizers_own_file_is_read_itself(tmp_path: Path) -> None:
    write_slow_files(tmp_path)
    assert num_merges(find_tokenizer(tmp_path / "merges.txt", 16)) == 3
    assert num_merges(find_tokenizer(write_published(tmp_path), 16)) == 2
    assert num_merges(find_tokenizer(write_json_of_clip(tmp_path), 16)) == 4


def test_a_tokenizers_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no tokenizer file"):
        find_tokenizer(tmp_path / "tokenizer.json", 16)


def test_a_spiece_model_alone_is_answered_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"spiece\.model alone; .*T5Tokenizer.*save_pretrained"):
        find_tokenizer(tmp_path, 16)


def test_a_damaged_file_is_not_passed_over_for_the_next(tmp_path: Path) -> None:
    write_published(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        find_tokenizer(tmp_path, 16)


def test_a_saved_tokenizer_of_either_kind_is_found_again(tmp_path: Path) -> None:
    for path in (write_json_of_clip(tmp_path), write_json_of_siglip(tmp_path)):
        words = load_tokenizer(path, 16)
        words.save(path)
        assert load_tokenizer(path, 16).fingerprint == words.fingerprint
