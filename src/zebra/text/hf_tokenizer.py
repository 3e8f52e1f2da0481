"""Tokenizers of Hugging Face's library: WordPiece, Unigram and BPE.

BERT: `[CLS] text [SEP]`; XLM-R, XLM-V and RoBERTa: `<s> text </s>`; T5, mT5 and SigLIP: `text </s>`; NLLB:
`eng_Latn text </s>`. Every row is padded to the context length. `text.tokenizer_files` reads the files.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, processors

from zebra.errors import ConfigError
from zebra.text.batch_encoding import BatchEncoding, PaddingSide, check_texts, pad_rows, truncate_rows
from zebra.text.clean import CLEANING_FUNCTIONS, Cleaning, replace_surrogates
from zebra.text.cleaning_normalizers import add_cleaning
from zebra.text.token_counts import TokenCounts, count_tokens, is_byte_token, is_part_of_character
from zebra.text.vocabulary import byte_values

_UNASSIGNED = "\U0008fffd"  # no character, so it is in no vocabulary
SpecialToken = tuple[str, int]
"""Name and id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowTemplate:
    """The special tokens around the tokens of a text."""

    prefix: tuple[SpecialToken, ...] = ()
    """Tokens before the text."""
    suffix: tuple[SpecialToken, ...] = ()
    """Tokens after the text; truncation keeps them."""
    pad: SpecialToken
    """The padding token."""
    padding_side: PaddingSide = "right"
    """Side of the padding."""

    def processor(self) -> processors.TemplateProcessing:
        """Return the post-processor that adds the prefix and the suffix."""
        return processors.TemplateProcessing(
            single=[*(name for name, _ in self.prefix), "$A", *(name for name, _ in self.suffix)],
            special_tokens=list({**dict(self.prefix), **dict(self.suffix)}.items()),
        )


class HFTokenizer:
    """A tokenizer of Hugging Face's library: converts texts to rows of one length.

    Differs from transformers and open_clip: the text of a control token ("[SEP]", "</s>") is encoded as ordinary
    characters, and in a Unigram vocabulary as the unknown token, so that no caption can end its own sequence.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        context_length: int,
        template: RowTemplate,
        cleaning: Cleaning | None = None,
    ) -> None:
        """Configure `backend`, which this object modifies and owns.

        Args:
            backend: The vocabulary, normalizer and pre-tokenizer.
            context_length: Length of every row.
            template: The special tokens of a row.
            cleaning: The cleaning of a text before the normalizer; None for no cleaning.

        Raises:
            ConfigError: If `context_length` has no room for the special tokens.
        """
        num_special = max(1, len(template.prefix) + len(template.suffix))
        if context_length < num_special:
            raise ConfigError(
                f"context_length is {context_length}; it must be at least {num_special}, for the start and end tokens"
            )
        self._backend, self._context_length = backend, context_length
        self._template, self._cleaning = template, cleaning
        backend.no_padding()  # `encode` truncates and pads, because it counts the truncated texts
        backend.no_truncation()
        backend.post_processor = template.processor()
        backend.encode_special_tokens = True  # encode them as ordinary characters in texts
        # Unigram finds them in texts all the same, because they are entries of its vocabulary.
        is_unigram = isinstance(backend.model, models.Unigram)
        added = backend.get_added_tokens_decoder().items() if is_unigram else ()
        self._control_ids = {index for index, token in added if token.special}
        self._unknown_id = backend.encode(_UNASSIGNED, add_special_tokens=False).ids[-1] if is_unigram else 0

    def encode(self, texts: Sequence[str], *, truncate: bool) -> BatchEncoding:
        """Clean and encode texts, with special tokens and padding. See `Tokenizer.encode`."""
        rows = self._encode_rows(texts)
        num_truncated = truncate_rows(rows, texts, self._context_length, suffix=self.end_token_ids, truncate=truncate)
        padded = pad_rows(
            rows, self._context_length, pad_id=self.pad_token_id, padding_side=self._template.padding_side
        )
        return BatchEncoding(*padded, num_truncated=num_truncated)

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts without truncation. See `Tokenizer.count_tokens`."""
        return count_tokens(
            self._encode_rows(texts),
            self._context_length,
            num_special=len(self._template.prefix) + len(self._template.suffix),
            unknown_ids=self._unknown_ids,
            fragment_ids=self._fragment_ids,
        )

    def save(self, path: str | Path) -> None:
        """Write the file `tokenizer.json` with every rule in it; equal tokenizers give equal bytes."""
        Path(path).write_text(self._to_json() + "\n", encoding="utf-8", newline="\n")

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickling the Rust object loses `encode_special_tokens`.
        return HFTokenizer, (self._backend, self._context_length, self._template, self._cleaning)

    @cached_property
    def fingerprint(self) -> str:
        """Return a digest of the function from texts to ids."""
        return hashlib.sha256(self._to_json().encode()).hexdigest()

    @cached_property
    def vocab_size(self) -> int:
        """Return the number of rows of the embedding table: the highest id plus one."""
        if isinstance(self._backend.model, models.Unigram):  # without gaps; its dictionary takes long to build
            added_ids = self._backend.get_added_tokens_decoder()
            return max(self._backend.get_vocab_size(with_added_tokens=False), *(index + 1 for index in added_ids), 0)
        return max(self._backend.get_vocab().values()) + 1

    @property
    def context_length(self) -> int:
        """Return the number of tokens of every row, including padding."""
        return self._context_length

    @property
    def template(self) -> RowTemplate:
        """Return the special tokens of a row."""
        return self._template

    @property
    def cleaning(self) -> Cleaning | None:
        """Return the cleaning of a text before the normalizer."""
        return self._cleaning

    @property
    def pad_token_id(self) -> int:
        """Return the id of the padding token."""
        return self._template.pad[1]

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """Return the ids after a text, before the padding."""
        return tuple(index for _, index in self._template.suffix)

    @cached_property
    def _unknown_ids(self) -> tuple[int, ...]:
        """Ids of the unknown token; () if the vocabulary has a token for every byte."""
        if isinstance(self._backend.model, models.Unigram):
            return (self._unknown_id,)
        name = getattr(self._backend.model, "unk_token", None)
        index = None if name is None else self._backend.token_to_id(name)
        return () if index is None else (index,)

    @cached_property
    def _fragment_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that are parts of characters: bytes of a fallback, or of a byte-level vocabulary."""
        vocabulary = self._backend.get_vocab(with_added_tokens=False)
        if not isinstance(self._backend.decoder, decoders.ByteLevel):
            return tuple(index for symbol, index in vocabulary.items() if is_byte_token(symbol))
        bytes_by_symbol = byte_values()
        return tuple(
            index
            for symbol, index in vocabulary.items()
            if bytes_by_symbol.keys() >= set(symbol)
            and is_part_of_character(bytes(map(bytes_by_symbol.__getitem__, symbol)))
        )

    def _encode_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Clean and encode texts, with special tokens, without truncation and padding."""
        check_texts(texts)
        cleaned = [replace_surrogates(text) for text in texts]
        if self._cleaning is not None:
            cleaned = list(map(CLEANING_FUNCTIONS[self._cleaning], cleaned))
        rows = [row.ids for row in self._backend.encode_batch_fast(cleaned)]
        if self._control_ids:
            self._replace_control_tokens(rows)
        return rows

    def _replace_control_tokens(self, rows: list[list[int]]) -> None:
        """Replace control tokens in texts by the unknown token, in place."""
        start, num_after = len(self._template.prefix), len(self._template.suffix)
        for row in rows:
            end = len(row) - num_after
            if not self._control_ids.isdisjoint(row[start:end]):
                row[start:end] = [self._unknown_id if index in self._control_ids else index for index in row[start:end]]

    def _to_json(self) -> str:
        """Return the backend with cleaning, truncation and padding, which `encode` applies itself, as JSON."""
        rules = tokenizers.Tokenizer(models.BPE())  # without the vocabulary, whose copy takes long
        rules.normalizer = self._backend.normalizer
        if self._cleaning:
            add_cleaning(rules, self._cleaning)
        pad_token, pad_id = self._template.pad
        rules.enable_truncation(self._context_length)
        rules.enable_padding(
            direction=self._template.padding_side, pad_id=pad_id, pad_token=pad_token, length=self._context_length
        )
        document, rules_document = self._backend.to_str(pretty=True), rules.to_str(pretty=True)
        for first, end in (("truncation", "added_tokens"), ("normalizer", "pre_tokenizer")):
            document = document.replace(_section(document, first, end), _section(rules_document, first, end), 1)
        return document


def _section(document: str, first: str, end: str) -> str:
    """Return the part of an indented JSON object from the key `first` up to the key `end`."""
    start = document.index(f'\n  "{first}":')
    return document[start : document.index(f'\n  "{end}":', start)]
