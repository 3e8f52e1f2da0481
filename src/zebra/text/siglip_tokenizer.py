"""Captions in, rows as long as the context out: the tokenizers of SigLIP, read from a `tokenizer.json`.

SigLIP (§3) uses a SentencePiece Unigram vocabulary, SigLIP 2 that of Gemma, a BPE over characters that falls back
to bytes. Both append EOS and pad every text to the context length, because the text tower pools at the last
position. What belongs to the rules stands in the file itself:

    normalizer       how texts are cleaned, then what the vocabulary was trained with
    post_processor   EOS
    padding          the padding token, its side and the length
    truncation       the length, EOS kept
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import tokenizers
from tokenizers import models, normalizers, processors

from zebra.errors import ConfigError, WeightsError
from zebra.text.batch_encoding import BatchEncoding, PaddingSide, check_texts, pad_rows, truncate_rows
from zebra.text.clean import CLEANING_FUNCTIONS, Cleaning, replace_surrogates
from zebra.text.files import read_json_object, read_text

_PUNCTUATION = r"""[!-/:-@\[-`{-~]"""  # ASCII's, by its four ranges
_FIX_ENCODING = [
    normalizers.NFC(),
    normalizers.Replace(tokenizers.Regex("[\u02bc\u2018-\u201b]"), "'"),
    normalizers.Replace(tokenizers.Regex("[\u201c-\u201f]"), '"'),
]
_COLLAPSE_WHITESPACE = [
    normalizers.Replace(tokenizers.Regex(r"[\s\x1c-\x1f]+"), " "),  # Python counts four separators more
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
"""How a file says a cleaning: its normalizer begins with these. Programs that read the file apply them, which is the
same but for damaged encodings, HTML entities and a Greek final sigma; zebra applies the exact function instead."""


class SiglipTokenizer:
    """Turns text into rows of one length.

    Differs from the peers: a text that spells out a control token ("</s>", "<eos>") is encoded as the ordinary
    characters it consists of, so that no caption can end its own sequence. And where two segmentations of a run of
    equal letters have the same probability, SentencePiece may take the other one, since it adds in single precision.
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
        """Complete `backend`, which this object owns from now on.

        Args:
            backend: Vocabulary, normalizer and pre-tokenizer.
            context_length: Length of every row.
            eos_token: The token that ends a text.
            pad_token: The token that fills a row.
            padding_side: Where padding goes.
            cleaning: What is done to a text before the normalizer; None: nothing.

        Raises:
            ConfigError: `context_length` is below 1.
            WeightsError: `eos_token` or `pad_token` is not in the vocabulary.
        """
        if context_length < 1:
            raise ConfigError(f"context_length is {context_length}; it must be at least 1, for the end token")
        self._backend, self._eos_token, self._pad_token, self._padding_side = (
            backend,
            eos_token,
            pad_token,
            padding_side,
        )
        self._context_length = context_length
        self._cleaning = cleaning
        self._eos_token_id, self._pad_token_id = _token_id(backend, eos_token), _token_id(backend, pad_token)
        backend.no_padding()  # rows are cut and padded here, where they are counted
        backend.no_truncation()
        backend.post_processor = processors.TemplateProcessing(
            single=f"$A {eos_token}", special_tokens=[(eos_token, self._eos_token_id)]
        )
        backend.encode_special_tokens = True  # in user text they are ordinary characters

    @classmethod
    def load(cls, path: str | Path, context_length: int = 64) -> "SiglipTokenizer":
        """Read a `tokenizer.json`, given the file or its folder.

        Rules that the file does not state are taken from beside it: from `open_clip_config.json` how texts are
        cleaned, from `tokenizer_config.json` the names of EOS and padding and the side. Failing those, they are
        SigLIP's: a Unigram vocabulary lower-cases, drops punctuation and pads with EOS; a BPE lower-cases and pads
        with "<pad>"; both pad at the right.

        Raises:
            WeightsError: The file is missing, damaged, or holds another kind of tokenizer.
        """
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        rust = _read_tokenizer_json(path)
        unigram = isinstance(rust.model, models.Unigram)
        padding: Mapping[str, Any] = rust.padding or {}
        beside = _read_sibling(path, "tokenizer_config.json")
        end = _read_token_name(beside, "eos_token", "</s>" if unigram else "<eos>")
        pad = padding.get("pad_token") or _read_token_name(beside, "pad_token", end if unigram else "<pad>")
        side: PaddingSide = padding.get("direction") or beside.get("padding_side") or "right"
        if side not in get_args(PaddingSide):
            raise WeightsError(f"{path}: padding on the side {side!r}; it must be right or left")
        cleaning = _pop_cleaning(rust) or _read_open_clip_cleaning(path)
        if cleaning is None and unigram:
            cleaning = "siglip"
        elif cleaning is None and {"type": "Lowercase"} not in _normalizer_steps(rust.normalizer):
            rust.normalizer = normalizers.Sequence(
                [normalizers.Lowercase(), *([rust.normalizer] if rust.normalizer else [])]
            )
        try:
            return cls(
                rust, context_length, eos_token=end, pad_token=pad, padding_side=side, cleaning=cleaning
            )
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}; copy it again from where the model came from") from error

    def save(self, path: str | Path) -> None:
        """Write the file `tokenizer.json` with every rule in it; equal tokenizers give equal bytes."""
        Path(path).write_text(self._to_json() + "\n", encoding="utf-8", newline="\n")

    def encode(self, texts: Sequence[str], *, truncate: bool) -> BatchEncoding:
        """Clean and encode texts, each as its tokens, EOS and padding.

        Args:
            texts: any number of strings.
            truncate: cut a text over the context length, keeping EOS. If false, such a text is an error.

        Raises:
            ConfigError: `texts` is one string rather than a list.
            DataError: an element is not a string, or is too long and `truncate` is false.
        """
        check_texts(texts)
        cleaned = [replace_surrogates(text) for text in texts]
        if self._cleaning is not None:
            cleaned = list(map(CLEANING_FUNCTIONS[self._cleaning], cleaned))
        rows = [row.ids for row in self._backend.encode_batch_fast(cleaned)]
        truncated = truncate_rows(
            rows, texts, self._context_length, end_id=self._eos_token_id, truncate=truncate
        )
        padded = pad_rows(
            rows, self._context_length, pad_id=self._pad_token_id, padding_side=self._padding_side
        )
        return BatchEncoding(*padded, num_truncated=truncated)

    def __reduce__(self) -> tuple[Any, ...]:
        # The Rust object forgets on its way to another process that special tokens in text are ordinary.
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
        """Digest of the function from texts to ids."""
        return hashlib.sha256(self._to_json().encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Rows the embedding table needs: one more than the highest id."""
        return max(self._backend.get_vocab().values()) + 1

    @property
    def context_length(self) -> int:
        """Tokens of every row, padding included."""
        return self._context_length

    @property
    def eos_token_id(self) -> int:
        """Id of the token that ends a text."""
        return self._eos_token_id

    @property
    def pad_token_id(self) -> int:
        """Id of the token that fills a row; in SigLIP the one that ends it."""
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
        raise WeightsError(f"the vocabulary has no {token!r}, which ends or pads texts")
    return index


def _read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    text = read_text(path)
    try:
        rust = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more specific
        raise WeightsError(
            f"{path} is not a tokenizer.json ({error}); copy it again from where the model came from"
        ) from error
    model = rust.model
    if isinstance(model, models.Unigram) or (isinstance(model, models.BPE) and model.byte_fallback):
        return rust
    raise WeightsError(
        f"{path} holds a {type(model).__name__} tokenizer of a kind zebra does not read; it reads CLIP's byte-level "
        f"BPE, SigLIP's Unigram and SigLIP 2's BPE with byte fallback"
    )


def _read_sibling(path: Path, name: str) -> dict[str, Any]:
    other = path.parent / name
    return read_json_object(other) if other.is_file() else {}


def _read_token_name(config: Mapping[str, Any], key: str, default: str) -> str:
    """Look up a token's name, which may be wrapped in its options."""
    value = config.get(key)
    return str(value["content"] if isinstance(value, dict) else value or default)


def _normalizer_steps(normalizer: normalizers.Normalizer | None) -> list[dict[str, Any]]:
    """Spell out a normalizer; a sequence inside a sequence is flattened when it is built."""
    state = json.loads(normalizer.__getstate__()) if normalizer is not None else {"normalizers": []}
    return list(state.get("normalizers", [state]))


def _pop_cleaning(backend: tokenizers.Tokenizer) -> Cleaning | None:
    """Remove the stand-in that leads the normalizer, and return what it stands for."""
    steps = _normalizer_steps(backend.normalizer)
    for cleaning, stand_in in CLEANING_NORMALIZERS.items():
        if steps[: len(stand_in)] == [step for part in stand_in for step in _normalizer_steps(part)]:
            own = normalizers.Sequence([])
            own.__setstate__(json.dumps({"type": "Sequence", "normalizers": steps[len(stand_in) :]}).encode())
            backend.normalizer = own
            return cleaning
    return None


def _read_open_clip_cleaning(path: Path) -> Cleaning | None:
    """Read how open_clip cleans texts for the model in this folder; None if it is not one of open_clip's."""
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
        f"{path.parent / 'open_clip_config.json'}: tokenizer_kwargs.clean is {name!r}; zebra knows {', '.join(known)}"
    )
