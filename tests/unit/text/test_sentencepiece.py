"""SentencePiece models: reading and damaged files."""

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import WeightsError
from zebra.text import HFTokenizer, SiglipTokenizer, find_tokenizer
from zebra.text.sentencepiece import read_sentencepiece

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
Piece = tuple[str, float, int]
T5_PIECES = [("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)]
XLM_ROBERTA_PIECES = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
WORDS = [("▁zebra", -1.0, NORMAL), ("s", -2.0, NORMAL), ("▁", -3.0, NORMAL)]


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def write_model(path: Path, pieces: Sequence[Piece], model_type: int = 1) -> Path:
    encoded = [
        message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + number(3, kind))
        for text, score, kind in pieces
    ]
    path.write_bytes(b"".join(encoded) + message(2, number(3, model_type) + number(4, 300)) + message(3, b""))
    return path


def rows(folder: Path, *texts: str) -> list[list[int]]:
    tokenizer = find_tokenizer(folder, 6)
    assert tokenizer is not None
    ids: list[list[int]] = tokenizer.encode(texts, truncate=True).ids.tolist()
    return ids


def test_xlm_roberta_has_its_own_ids(tmp_path: Path) -> None:
    write_model(tmp_path / "sentencepiece.bpe.model", [*XLM_ROBERTA_PIECES, *WORDS])
    assert type(find_tokenizer(tmp_path, 6)) is HFTokenizer
    assert rows(tmp_path, "zebras", "ж") == [[0, 4, 5, 2, 1, 1], [0, 6, 3, 2, 1, 1]]


def test_t5_appends_its_end_token(tmp_path: Path) -> None:
    write_model(tmp_path / "spiece.model", [*T5_PIECES, *WORDS])
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}', encoding="utf-8")
    assert type(find_tokenizer(tmp_path, 6)) is HFTokenizer
    assert rows(tmp_path, "zebras", "Z") == [[3, 4, 1, 0, 0, 0], [5, 2, 1, 0, 0, 0]]


def test_a_lone_spiece_model_is_siglip(tmp_path: Path) -> None:
    write_model(tmp_path / "spiece.model", [*T5_PIECES, *WORDS])
    assert type(find_tokenizer(tmp_path, 6)) is SiglipTokenizer
    assert rows(tmp_path, "Zebras!") == [[3, 4, 1, 1, 1, 1]]


def test_a_user_defined_piece_is_found_in_texts(tmp_path: Path) -> None:
    write_model(tmp_path / "sentencepiece.bpe.model", [*XLM_ROBERTA_PIECES, *WORDS, ("<br>", 0.0, USER_DEFINED)])
    assert rows(tmp_path, "zebra<br>") == [[0, 4, 7, 2, 1, 1]]


def test_a_saved_tokenizer_is_complete(tmp_path: Path) -> None:
    write_model(tmp_path / "sentencepiece.bpe.model", [*XLM_ROBERTA_PIECES, *WORDS])
    tokenizer = find_tokenizer(tmp_path, 6)
    assert tokenizer is not None
    (tmp_path / "saved").mkdir()
    tokenizer.save(tmp_path / "saved/tokenizer.json")
    loaded = find_tokenizer(tmp_path / "saved", 6)
    assert loaded is not None
    assert loaded.fingerprint == tokenizer.fingerprint


def test_a_bpe_model_is_refused_with_the_conversion(tmp_path: Path) -> None:
    path = write_model(tmp_path / "sentencepiece.bpe.model", [*XLM_ROBERTA_PIECES, *WORDS], model_type=2)
    with pytest.raises(WeightsError, match=r"not a Unigram model. Convert it .*AutoTokenizer.*save_pretrained"):
        read_sentencepiece(path)


@pytest.mark.parametrize("content", [b"", b"\x0a\xff\x01", b"\x0a", b"\xff" * 30, b"\x08\x01", b'{"model": {}}'])
def test_a_damaged_model_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(WeightsError, match=r"spiece\.model is not a SentencePiece model"):
        find_tokenizer(tmp_path, 6)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_bytes_give_a_tokenizer_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, insert: bytes, position: int
) -> None:
    path = write_model(tmp_path_factory.getbasetemp() / "spiece.model", [*T5_PIECES, *WORDS])
    content = path.read_bytes()
    path.write_bytes(content[:position] + insert + content[position + len(insert) :])
    try:
        backend = read_sentencepiece(path)
    except WeightsError:
        return
    assert backend.get_vocab_size() > 0
