"""The tokenizers of SigLIP and SigLIP 2, read from a `tokenizer.json`.

SigLIP (§3) uses a SentencePiece Unigram vocabulary. SigLIP 2 uses that of Gemma, a BPE over characters with byte
fallback. Both append EOS and pad every text to the context length, because the text tower pools at the last position.
The file contains these rules:

    normalizer       the cleaning, then the normalizer of the vocabulary
    post_processor   EOS
    padding          the padding token, the side and the length
    truncation       the length; EOS is kept
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import tokenizers
from tokenizers import models, normalizers, processors

from zebra.errors import ConfigError, WeightsError, show_value
from zebra.text.batch_encoding import BatchEncoding, PaddingSide, check_texts, pad_rows, truncate_rows
from zebra.text.clean import CLEANING_FUNCTIONS, Cleaning, replace_surrogates
from zebra.text.files import read_json_object, read_text

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


class SiglipTokenizer:
    """SigLIP's tokenizer: converts texts to rows of one length.

    Differs from other implementations: the text of a control token ("</s>", "<eos>") is encoded as ordinary
    characters, so that no caption can end its own sequence. If two segmentations of a run of equal letters have the
    same probability, SentencePiece may choose the other one, because it adds in single precision.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        context_length: int,
        *,
        eos_token: str,
        pad_token: str,
        padding_side: PaddingSide = "right",
        cleaning: Cleaning | None = None,
    ) -> None:
        """Configure `backend`, which this object modifies and owns.

        Args:
            backend: The vocabulary, normalizer and pre-tokenizer.
            context_length: Length of every row.
            eos_token: The token that ends a text.
            pad_token: The token that pads a row.
            padding_side: The side of the padding.
            cleaning: The cleaning of a text before the normalizer; None for no cleaning.

        Raises:
            ConfigError: If `context_length` is below 1.
            WeightsError: If `eos_token` or `pad_token` is not in the vocabulary.
        """
        if context_length < 1:
            raise ConfigError(f"context_length is {context_length}; it must be at least 1, for the end token")
        self._backend, self._context_length = backend, context_length
        self._eos_token, self._pad_token, self._padding_side = eos_token, pad_token, padding_side
        self._cleaning = cleaning
        self._eos_token_id, self._pad_token_id = _token_id(backend, eos_token), _token_id(backend, pad_token)
        backend.no_padding()  # `encode` truncates and pads, because it counts the truncated texts
        backend.no_truncation()
        backend.post_processor = processors.TemplateProcessing(
            single=f"$A {eos_token}", special_tokens=[(eos_token, self._eos_token_id)]
        )
        backend.encode_special_tokens = True  # encode them as ordinary characters in texts

    @classmethod
    def load(cls, path: str | Path, context_length: int = 64) -> "SiglipTokenizer":
        """Read a `tokenizer.json`; `path` is the file or its directory.

        Rules that the file lacks are read from the same directory: the cleaning from `open_clip_config.json`, the EOS
        and padding tokens and the side from `tokenizer_config.json`. The defaults are SigLIP's: a Unigram vocabulary
        lower-cases, drops punctuation and pads with EOS; a BPE lower-cases and pads with "<pad>"; both pad on the
        right.

        Raises:
            WeightsError: If the file is missing or damaged, or has another kind of tokenizer.
        """
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        backend = _read_tokenizer_json(path)
        is_unigram = isinstance(backend.model, models.Unigram)
        padding: Mapping[str, Any] = backend.padding or {}
        sibling_config = _read_sibling(path, "tokenizer_config.json")
        end = _read_token_name(sibling_config, "eos_token", "</s>" if is_unigram else "<eos>")
        pad = padding.get("pad_token") or _read_token_name(sibling_config, "pad_token", end if is_unigram else "<pad>")
        side: PaddingSide = padding.get("direction") or sibling_config.get("padding_side") or "right"
        if side not in get_args(PaddingSide):
            raise WeightsError(f"{path}: padding on the side {show_value(side)}; it must be right or left")
        cleaning = _pop_cleaning(backend) or _read_open_clip_cleaning(path)
        if cleaning is None and is_unigram:
            cleaning = "siglip"
        elif cleaning is None and {"type": "Lowercase"} not in _normalizer_steps(backend.normalizer):
            backend.normalizer = normalizers.Sequence(
                [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
            )
        try:
            return cls(backend, context_length, eos_token=end, pad_token=pad, padding_side=side, cleaning=cleaning)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}; copy it again from the source of the model") from error

    def save(self, path: str | Path) -> None:
        """Write the file `tokenizer.json` with every rule in it; equal tokenizers give equal bytes."""
        Path(path).write_text(self._to_json() + "\n", encoding="utf-8", newline="\n")

    def encode(self, texts: Sequence[str], *, truncate: bool) -> BatchEncoding:
        """Clean and encode texts, each as its tokens, EOS and padding. See `Tokenizer.encode`."""
        check_texts(texts)
        cleaned = [replace_surrogates(text) for text in texts]
        if self._cleaning is not None:
            cleaned = list(map(CLEANING_FUNCTIONS[self._cleaning], cleaned))
        rows = [row.ids for row in self._backend.encode_batch_fast(cleaned)]
        num_truncated = truncate_rows(rows, texts, self._context_length, end_id=self._eos_token_id, truncate=truncate)
        padded = pad_rows(rows, self._context_length, pad_id=self._pad_token_id, padding_side=self._padding_side)
        return BatchEncoding(*padded, num_truncated=num_truncated)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickling the Rust object loses `encode_special_tokens`.
        make = partial(
            SiglipTokenizer,
            eos_token=self._eos_token,
            pad_token=self._pad_token,
            padding_side=self._padding_side,
            cleaning=self._cleaning,
        )
        return make, (self._backend, self._context_length)

    @property
    def fingerprint(self) -> str:
        """Return a digest of the function from texts to ids."""
        return hashlib.sha256(self._to_json().encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Return the number of rows of the embedding table: the highest id plus one."""
        return max(self._backend.get_vocab().values()) + 1

    @property
    def context_length(self) -> int:
        """Return the number of tokens of every row, including padding."""
        return self._context_length

    @property
    def eos_token_id(self) -> int:
        """Return the id of the end-of-text token."""
        return self._eos_token_id

    @property
    def pad_token_id(self) -> int:
        """Return the id of the padding token; in SigLIP it is the end-of-text token."""
        return self._pad_token_id

    def _to_json(self) -> str:
        shared = tokenizers.Tokenizer.from_str(self._backend.to_str())
        if self._cleaning:
            shared.normalizer = normalizers.Sequence(
                [*CLEANING_NORMALIZERS[self._cleaning], *([shared.normalizer] if shared.normalizer else [])]
            )
        shared.enable_truncation(self._context_length)
        shared.enable_padding(
            direction=self._padding_side,
            pad_id=self._pad_token_id,
            pad_token=self._pad_token,
            length=self._context_length,
        )
        return shared.to_str(pretty=True)


def _token_id(backend: tokenizers.Tokenizer, token: str) -> int:
    index = backend.token_to_id(token)
    if index is None:
        raise WeightsError(f"the vocabulary lacks {token!r}, the end-of-text or padding token")
    return index


def _read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    text = read_text(path)
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise WeightsError(
            f"{path} is not a tokenizer.json ({error}); copy it again from the source of the model"
        ) from error
    model = backend.model
    if isinstance(model, models.Unigram) or (isinstance(model, models.BPE) and model.byte_fallback):
        return backend
    raise WeightsError(
        f"{path} has an unsupported {type(model).__name__} tokenizer; zebra reads CLIP's byte-level BPE, SigLIP's "
        f"Unigram and SigLIP 2's BPE with byte fallback"
    )


def _read_sibling(path: Path, name: str) -> dict[str, Any]:
    sibling = path.parent / name
    return read_json_object(sibling) if sibling.is_file() else {}


def _read_token_name(config: Mapping[str, Any], key: str, default: str) -> str:
    """Return the name of a token, which may be wrapped in its options."""
    value = config.get(key)
    return str(value["content"] if isinstance(value, dict) else value or default)


def _normalizer_steps(normalizer: normalizers.Normalizer | None) -> list[dict[str, Any]]:
    """Return the steps of a normalizer; the library flattens nested sequences."""
    state = json.loads(normalizer.__getstate__()) if normalizer is not None else {"normalizers": []}
    return list(state.get("normalizers", [state]))


def _pop_cleaning(backend: tokenizers.Tokenizer) -> Cleaning | None:
    """Remove the steps of a cleaning from the start of the normalizer, and return the cleaning."""
    steps = _normalizer_steps(backend.normalizer)
    for cleaning, cleaning_steps in CLEANING_NORMALIZERS.items():
        if steps[: len(cleaning_steps)] == [step for part in cleaning_steps for step in _normalizer_steps(part)]:
            remaining = normalizers.Sequence([])
            remaining.__setstate__(
                json.dumps({"type": "Sequence", "normalizers": steps[len(cleaning_steps) :]}).encode()
            )
            backend.normalizer = remaining
            return cleaning
    return None


def _read_open_clip_cleaning(path: Path) -> Cleaning | None:
    """Read the cleaning from `open_clip_config.json`; None if there is no such file."""
    config = _read_sibling(path, "open_clip_config.json")
    if not config:
        return None
    text = config.get("model_cfg", {}).get("text_cfg", {})
    name = (text.get("tokenizer_kwargs") or {}).get("clean", "whitespace")  # open_clip's default
    known: tuple[Cleaning, ...] = ("canonicalize", "lower", "whitespace")
    for cleaning in known:
        if cleaning == name:
            return cleaning
    raise WeightsError(
        f"{path.parent / 'open_clip_config.json'}: tokenizer_kwargs.clean is {show_value(name)}; zebra knows "
        f"{', '.join(known)}"
    )
