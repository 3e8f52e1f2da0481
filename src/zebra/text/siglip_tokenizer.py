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
from zebra.text.batch_encoding import Encoded, Side, check_texts, cut_rows, pad_rows
from zebra.text.clean import CLEANINGS, Cleaning, without_surrogates
from zebra.text.files import read_object, read_text

_PUNCTUATION = r"""[!-/:-@\[-`{-~]"""  # ASCII's, by its four ranges
_MEND = [
    normalizers.NFC(),
    normalizers.Replace(tokenizers.Regex("[\u02bc\u2018-\u201b]"), "'"),
    normalizers.Replace(tokenizers.Regex("[\u201c-\u201f]"), '"'),
]
_COLLAPSE = [
    normalizers.Replace(tokenizers.Regex(r"[\s\x1c-\x1f]+"), " "),  # Python counts four separators more
    normalizers.Strip(),
]
_DROP = normalizers.Replace(tokenizers.Regex(_PUNCTUATION), "")

STAND_INS: Mapping[Cleaning, Sequence[normalizers.Normalizer]] = {
    "lower": [*_MEND, *_COLLAPSE, normalizers.Lowercase()],
    "whitespace": [*_MEND, *_COLLAPSE],
    "canonicalize": [*_MEND, normalizers.Replace("_", " "), _DROP, normalizers.Lowercase(), *_COLLAPSE],
    "siglip": [normalizers.Lowercase(), _DROP, *_COLLAPSE],
}
"""How a file says a cleaning: its normalizer begins with these. Programs that read the file apply them, which is the
same but for damaged encodings, HTML entities and a Greek final sigma; zebra applies the exact function instead."""


class PaddedTokenizer:
    """Turns text into rows of one length.

    Differs from the peers: a text that spells out a control token ("</s>", "<eos>") is encoded as the ordinary
    characters it consists of, so that no caption can end its own sequence. And where two segmentations of a run of
    equal letters have the same probability, SentencePiece may take the other one, since it adds in single precision.
    """

    def __init__(
        self,
        rust: tokenizers.Tokenizer,
        context_length: int,
        *,
        end: str,
        pad: str,
        side: Side = "right",
        cleaning: Cleaning | None = None,
    ) -> None:
        """Complete `rust`, which this object owns from now on.

        Args:
            rust: Vocabulary, normalizer and pre-tokenizer.
            context_length: Length of every row.
            end: The token that ends a text.
            pad: The token that fills a row.
            side: Where padding goes.
            cleaning: What is done to a text before the normalizer; None: nothing.

        Raises:
            ConfigError: `context_length` is below 1.
            WeightsError: `end` or `pad` is not in the vocabulary.
        """
        if context_length < 1:
            raise ConfigError(f"context_length is {context_length}; it must be at least 1, for the end token")
        self._rust, self._end, self._pad, self._side = rust, end, pad, side
        self._context_length = context_length
        self._cleaning = cleaning
        self._end_id, self._pad_id = _id(rust, end), _id(rust, pad)
        rust.no_padding()  # rows are cut and padded here, where they are counted
        rust.no_truncation()
        rust.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, self._end_id)]
        )
        rust.encode_special_tokens = True  # in user text they are ordinary characters

    @classmethod
    def load(cls, path: str | Path, context_length: int = 64) -> "PaddedTokenizer":
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
        rust = _read(path)
        unigram = isinstance(rust.model, models.Unigram)
        padding: Mapping[str, Any] = rust.padding or {}
        beside = _read_beside(path, "tokenizer_config.json")
        end = _token(beside, "eos_token", "</s>" if unigram else "<eos>")
        pad = padding.get("pad_token") or _token(beside, "pad_token", end if unigram else "<pad>")
        side: Side = padding.get("direction") or beside.get("padding_side") or "right"
        if side not in get_args(Side):
            raise WeightsError(f"{path}: padding on the side {side!r}; it must be right or left")
        cleaning = _take_cleaning(rust) or _open_clip_cleaning(path)
        if cleaning is None and unigram:
            cleaning = "siglip"
        elif cleaning is None and {"type": "Lowercase"} not in _steps(rust.normalizer):
            rust.normalizer = normalizers.Sequence(
                [normalizers.Lowercase(), *([rust.normalizer] if rust.normalizer else [])]
            )
        try:
            return cls(rust, context_length, end=end, pad=pad, side=side, cleaning=cleaning)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}; copy it again from where the model came from") from error

    def save(self, path: str | Path) -> None:
        """Write the file `tokenizer.json` with every rule in it; equal tokenizers give equal bytes."""
        Path(path).write_text(self._document() + "\n", encoding="utf-8", newline="\n")

    def encode(self, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Clean and encode texts, each as its tokens, EOS and padding.

        Args:
            texts: any number of strings.
            truncate: cut a text over the context length, keeping EOS. If false, such a text is an error.

        Raises:
            ConfigError: `texts` is one string rather than a list.
            DataError: an element is not a string, or is too long and `truncate` is false.
        """
        check_texts(texts)
        cleaned = [without_surrogates(text) for text in texts]
        if self._cleaning is not None:
            cleaned = list(map(CLEANINGS[self._cleaning], cleaned))
        rows = [row.ids for row in self._rust.encode_batch_fast(cleaned)]
        truncated = cut_rows(rows, texts, self._context_length, end=self._end_id, truncate=truncate)
        padded = pad_rows(rows, self._context_length, pad=self._pad_id, side=self._side)
        return Encoded(*padded, truncated=truncated)

    def __reduce__(self) -> tuple[Any, ...]:
        # The Rust object forgets on its way to another process that special tokens in text are ordinary.
        make = partial(
            PaddedTokenizer, end=self._end, pad=self._pad, side=self._side, cleaning=self._cleaning
        )
        return make, (self._rust, self._context_length)

    @property
    def fingerprint(self) -> str:
        """Digest of the function from texts to ids."""
        return hashlib.sha256(self._document().encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Rows the embedding table needs: one more than the highest id."""
        return max(self._rust.get_vocab().values()) + 1

    @property
    def context_length(self) -> int:
        """Tokens of every row, padding included."""
        return self._context_length

    @property
    def end_id(self) -> int:
        """Id of the token that ends a text."""
        return self._end_id

    @property
    def pad_id(self) -> int:
        """Id of the token that fills a row; in SigLIP the one that ends it."""
        return self._pad_id

    def _document(self) -> str:
        shared = tokenizers.Tokenizer.from_str(self._rust.to_str())
        if self._cleaning:
            shared.normalizer = normalizers.Sequence(
                [*STAND_INS[self._cleaning], *([shared.normalizer] if shared.normalizer else [])]
            )
        shared.enable_truncation(self._context_length)
        shared.enable_padding(
            direction=self._side, pad_id=self._pad_id, pad_token=self._pad, length=self._context_length
        )
        return shared.to_str(pretty=True)


def _id(rust: tokenizers.Tokenizer, token: str) -> int:
    index = rust.token_to_id(token)
    if index is None:
        raise WeightsError(f"the vocabulary has no {token!r}, which ends or pads texts")
    return index


def _read(path: Path) -> tokenizers.Tokenizer:
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


def _read_beside(path: Path, name: str) -> dict[str, Any]:
    other = path.parent / name
    return read_object(other) if other.is_file() else {}


def _token(config: Mapping[str, Any], key: str, default: str) -> str:
    """Look up a token's name, which may be wrapped in its options."""
    value = config.get(key)
    return str(value["content"] if isinstance(value, dict) else value or default)


def _steps(normalizer: normalizers.Normalizer | None) -> list[dict[str, Any]]:
    """Spell out a normalizer; a sequence inside a sequence is flattened when it is built."""
    state = json.loads(normalizer.__getstate__()) if normalizer is not None else {"normalizers": []}
    return list(state.get("normalizers", [state]))


def _take_cleaning(rust: tokenizers.Tokenizer) -> Cleaning | None:
    """Remove the stand-in that leads the normalizer, and return what it stands for."""
    steps = _steps(rust.normalizer)
    for cleaning, stand_in in STAND_INS.items():
        if steps[: len(stand_in)] == [step for part in stand_in for step in _steps(part)]:
            own = normalizers.Sequence([])
            own.__setstate__(json.dumps({"type": "Sequence", "normalizers": steps[len(stand_in) :]}).encode())
            rust.normalizer = own
            return cleaning
    return None


def _open_clip_cleaning(path: Path) -> Cleaning | None:
    """Read how open_clip cleans texts for the model in this folder; None if it is not one of open_clip's."""
    config = _read_beside(path, "open_clip_config.json")
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
