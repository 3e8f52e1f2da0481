"""Text cleanings as normalizers of a `tokenizer.json`, for other programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import normalizers

from zebra.text.clean import Cleaning

_PUNCTUATION = r"""[!-/:-@\[-`{-~]"""  # the four ranges of ASCII
_FIX_ENCODING = [
    normalizers.NFC(),
    normalizers.Replace(tokenizers.Regex("[\u02bc\u2018-\u201b]"), "'"),
    normalizers.Replace(tokenizers.Regex("[\u201c-\u201f]"), '"'),
]
_COLLAPSE_WHITESPACE = [
    normalizers.Replace(tokenizers.Regex(r"[\s\x1c-\x1f]+"), " "),  # Python has four more separators
    normalizers.Strip(),
]
_DROP_PUNCTUATION = normalizers.Replace(tokenizers.Regex(_PUNCTUATION), "")
_NO_OPERATION = normalizers.Strip(left=False, right=False)

CLEANING_NORMALIZERS: Mapping[Cleaning, Sequence[normalizers.Normalizer]] = {
    "lower": [*_FIX_ENCODING, *_COLLAPSE_WHITESPACE, normalizers.Lowercase()],
    "whitespace": [*_FIX_ENCODING, *_COLLAPSE_WHITESPACE],
    "canonicalize": [
        *_FIX_ENCODING,
        normalizers.Replace("_", " "),
        _DROP_PUNCTUATION,
        normalizers.Lowercase(),
        *_COLLAPSE_WHITESPACE,
    ],
    "siglip": [normalizers.Lowercase(), _DROP_PUNCTUATION, *_COLLAPSE_WHITESPACE],
}
"""The normalizers at the start of a file that represent a cleaning. Other programs apply them, which is equivalent
except for broken encodings, HTML entities and the Greek final sigma; zebra applies the exact function instead."""


def normalizer_steps(normalizer: normalizers.Normalizer | None) -> list[dict[str, Any]]:
    """Return the steps of a normalizer; the library flattens nested sequences."""
    state = json.loads(normalizer.__getstate__()) if normalizer is not None else {"normalizers": []}
    return list(state.get("normalizers", [state]))


def add_cleaning(backend: tokenizers.Tokenizer, cleaning: Cleaning) -> None:
    """Put the steps of a cleaning before the normalizer of `backend`."""
    steps = list(CLEANING_NORMALIZERS[cleaning])
    if cleaning == "whitespace" and normalizer_steps(backend.normalizer)[:1] == [{"type": "Lowercase"}]:
        steps.append(_NO_OPERATION)  # else the steps would be those of "lower"
    backend.normalizer = normalizers.Sequence([*steps, *([backend.normalizer] if backend.normalizer else [])])


def pop_cleaning(backend: tokenizers.Tokenizer) -> Cleaning | None:
    """Remove the steps of a cleaning from the start of the normalizer, and return the cleaning."""
    steps = normalizer_steps(backend.normalizer)
    for cleaning, cleaning_steps in CLEANING_NORMALIZERS.items():
        if steps[: len(cleaning_steps)] == [step for part in cleaning_steps for step in normalizer_steps(part)]:
            remaining = normalizers.Sequence([])
            remaining.__setstate__(
                json.dumps({"type": "Sequence", "normalizers": steps[len(cleaning_steps) :]}).encode()
            )
            backend.normalizer = remaining
            return cleaning
    return None
