"""SentencePiece models: Unigram vocabularies of XLM-R, T5, mT5 and SigLIP.

A model is a protocol buffer (`sentencepiece_model.proto`) of pieces with scores, the kind of vocabulary and a table of
character replacements. XLM-R gives the pieces other ids: `<s> <pad> </s> <unk>`, then the pieces from the fourth on.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from zebra.errors import WeightsError
from zebra.text.files import read_bytes

XLM_ROBERTA_FILE = "sentencepiece.bpe.model"
"""The name of XLM-R's model, which is Unigram all the same."""

_UNIGRAM = 1
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4


class _Piece(NamedTuple):
    text: str
    score: float
    kind: int


class _Model(NamedTuple):
    pieces: list[_Piece]
    model_type: int
    character_map: bytes


_XLM_ROBERTA_PIECES = [
    _Piece("<s>", 0.0, _CONTROL),
    _Piece("<pad>", 0.0, _CONTROL),
    _Piece("</s>", 0.0, _CONTROL),
    _Piece("<unk>", 0.0, _UNKNOWN),
]


def read_sentencepiece(path: Path) -> tokenizers.Tokenizer:
    """Read a Unigram model with the rules of transformers, which splits at all white space.

    Raises:
        WeightsError: If the file is missing, damaged, or no Unigram model.
    """
    try:
        model = _parse_model(read_bytes(path))
        pieces = [*_XLM_ROBERTA_PIECES, *model.pieces[3:]] if path.name == XLM_ROBERTA_FILE else model.pieces
        unknown_id = next((index for index, piece in enumerate(pieces) if piece.kind == _UNKNOWN), None)
        vocabulary = models.Unigram([(piece.text, piece.score) for piece in pieces], unknown_id)
        backend = tokenizers.Tokenizer(vocabulary)
        if model.character_map:
            backend.normalizer = normalizers.Precompiled(model.character_map)
    except WeightsError:
        raise
    except Exception as error:  # a damaged file gives several types; the library raises plain Exception
        raise WeightsError(
            f"{path} is not a SentencePiece model ({error}); copy it again from the source of the model"
        ) from error
    if model.model_type != _UNIGRAM:
        raise WeightsError(
            f'{path} is not a Unigram model. Convert it to tokenizer.json with: python -c "from transformers import '
            f"AutoTokenizer as A; A.from_pretrained('{path.parent}').save_pretrained('{path.parent}')\" "
            "(needs: pip install transformers sentencepiece protobuf)"
        )
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    added = [piece for piece in pieces if piece.kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)]
    backend.add_tokens(
        [AddedToken(piece.text, normalized=False, special=piece.kind != _USER_DEFINED) for piece in added]
    )
    return backend


def _parse_model(data: bytes) -> _Model:
    """Parse `ModelProto`: pieces (1), trainer_spec (2) and normalizer_spec (3)."""
    pieces: list[_Piece] = []
    model_type, character_map = _UNIGRAM, b""
    for number, value in _read_fields(data):
        if number == 1:
            fields = dict(_read_fields(_as_bytes(value)))
            (score,) = struct.unpack("<f", _as_bytes(fields.get(2, bytes(4))))
            kind = fields.get(3, _NORMAL)
            pieces.append(
                _Piece(_as_bytes(fields[1]).decode("utf-8"), score, kind if isinstance(kind, int) else _NORMAL)
            )
        elif number == 2:
            model_type = int(dict(_read_fields(_as_bytes(value))).get(3, _UNIGRAM))
        elif number == 3:
            character_map = _as_bytes(dict(_read_fields(_as_bytes(value))).get(2, b""))
    if not pieces:
        raise ValueError("it has no pieces")
    return _Model(pieces, model_type, character_map)


def _read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of the fields of a message; numbers as int, all others as bytes."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        match key & 7:
            case 0:
                number, position = _read_varint(data, position)
                yield key >> 3, number
                continue
            case 1:
                size = 8
            case 2:
                size, position = _read_varint(data, position)
            case 5:
                size = 4
            case wire_type:
                raise ValueError(f"unknown wire type {wire_type}")
        if position + size > len(data):
            raise ValueError("the file is cut off")
        yield key >> 3, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
    raise ValueError("a number has more than 64 bits")


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number in the place of a message")
    return value
