"""Read a `tokenizer.json`: the Rust tokenizer and its special tokens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from zebra.errors import WeightsError, show_value
from zebra.text.hf_tokenizer import SpecialToken

_PARTS = {"normalizer": normalizers, "pre_tokenizer": pre_tokenizers, "model": models, "post_processor": processors}
_MODEL_TYPES = (models.WordPiece, models.Unigram, models.BPE)
_RARE_LETTERS = "𐌰𐀀ꙮ"  # Gothic, Linear B, Cyrillic: a tokenizer without them must have an unknown token


def parse_tokenizer_json(text: str, path: Path) -> tokenizers.Tokenizer:
    """Return the tokenizer that the contents of `path` describe.

    Raises:
        WeightsError: If the contents are damaged, or have a model or step that is unknown or random.
    """
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        unknown = _find_unknown_type(text)
        reason = f"{unknown}, which the installed tokenizers library does not know" if unknown else str(error)
        raise WeightsError(
            f"{path} is not a tokenizer.json ({reason}); copy it again from the source of the model"
        ) from error
    if not isinstance(backend.model, _MODEL_TYPES):
        raise WeightsError(
            f"{path} has an unsupported {type(backend.model).__name__} tokenizer; zebra reads WordPiece, Unigram and "
            "BPE"
        )
    if isinstance(backend.model, models.BPE) and backend.model.dropout:
        raise WeightsError(f"{path}: model.dropout is {backend.model.dropout}, so ids are random. Set it to null.")
    return backend


def require_unknown_token(backend: tokenizers.Tokenizer, path: Path) -> None:
    """Raise WeightsError if characters outside the vocabulary have no token: they would be lost, or fail later."""
    try:
        lost = [letter for letter in _RARE_LETTERS if not backend.encode(letter, add_special_tokens=False).ids]
    except Exception as error:  # the library raises plain Exception
        raise WeightsError(
            f"{path} has no token for unknown characters ({error}); copy it again from the source of the model"
        ) from error
    if isinstance(backend.model, models.BPE) and not backend.model.unk_token and not backend.model.byte_fallback:
        lost += [byte for byte in pre_tokenizers.ByteLevel.alphabet() if backend.token_to_id(byte) is None]
    if lost:
        raise WeightsError(
            f"{path} has no token for unknown characters such as {lost[0]!r}; copy it again from the source of the "
            "model"
        )


def read_special_tokens(
    backend: tokenizers.Tokenizer, path: Path
) -> tuple[tuple[SpecialToken, ...], tuple[SpecialToken, ...]] | None:
    """Return the tokens that the post-processor adds before and after a text; None if there is none.

    Raises:
        WeightsError: If the post-processor does something else.
    """
    if backend.post_processor is None:
        return None
    state = json.loads(backend.post_processor.__getstate__())
    prefix: list[SpecialToken] = []
    suffix: list[SpecialToken] = []
    for step in state.get("processors", [state]):  # later steps add further outside
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            prefix, suffix = [_to_token(step["cls"]), *prefix], [*suffix, _to_token(step["sep"])]
        elif step["type"] == "TemplateProcessing":
            before, after = _read_template(step, path)
            prefix, suffix = [*before, *prefix], [*suffix, *after]
        elif step["type"] != "ByteLevel":  # which changes offsets only
            raise _post_processor_error(path, step)
    return tuple(prefix), tuple(suffix)


def _read_template(step: Mapping[str, Any], path: Path) -> tuple[list[SpecialToken], list[SpecialToken]]:
    pieces = step["single"]
    texts = [index for index, piece in enumerate(pieces) if "Sequence" in piece]
    names = [piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece]
    ids = {name: step["special_tokens"][name]["ids"] for name in names}
    if len(texts) != 1 or pieces[texts[0]]["Sequence"]["id"] != "A" or any(len(found) != 1 for found in ids.values()):
        raise _post_processor_error(path, pieces)
    tokens = [(name, ids[name][0]) for name in names]
    return tokens[: texts[0]], tokens[texts[0] :]


def _to_token(pair: Any) -> SpecialToken:
    name, index = pair
    return str(name), int(index)


def _post_processor_error(path: Path, value: object) -> WeightsError:
    return WeightsError(
        f"{path}: unsupported post_processor {show_value(value)}; zebra supports special tokens before and after one "
        "text"
    )


def _find_unknown_type(text: str) -> str | None:
    """Return the first part of the file whose type the library does not have, such as "normalizer.type is Foo"."""
    try:
        document = json.loads(text)
        parts = [(key, document[key]) for key in _PARTS if isinstance(document.get(key), dict)]
    except (ValueError, RecursionError, AttributeError):
        return None
    for key, part in parts:
        steps = next((part[name] for name in ("normalizers", "pretokenizers", "processors") if name in part), [part])
        for step in steps if isinstance(steps, list) else []:
            kind = step.get("type") if isinstance(step, dict) else None
            if isinstance(kind, str) and not hasattr(_PARTS[key], kind):
                return f"{key}.type is {show_value(kind)}"
    return None
