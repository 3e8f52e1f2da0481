"""Find and load the tokenizer of a model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import tokenizers

from zebra.text.batch_encoding import BatchEncoding
from zebra.text.bpe import BPETokenizer
from zebra.text.files import read_text
from zebra.text.hf_files import build_hf_tokenizer
from zebra.text.sentencepiece import XLM_ROBERTA_FILE, read_sentencepiece
from zebra.text.siglip_tokenizer import SiglipTokenizer, is_siglip
from zebra.text.token_counts import TokenCounts
from zebra.text.tokenizer_config import OpenClipTextRules, TokenizerConfig
from zebra.text.tokenizer_json import parse_tokenizer_json
from zebra.text.vocabulary_files import is_clip_vocabulary, read_byte_level_bpe, read_wordpiece

OPENAI_MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
"""The name of OpenAI's merges file."""
MERGES_FILE = "merges.txt"
"""The name of the merges beside a `vocab.json`."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", OPENAI_MERGES_FILE, XLM_ROBERTA_FILE, "spiece.model")
"""Names of tokenizer files in the order of search."""
_CLIP_PATTERN = re.compile(r'"end_of_word_suffix":\s*"</w>"')


class Tokenizer(Protocol):
    """The interface of a tokenizer in a bundle."""

    @property
    def vocab_size(self) -> int:
        """Return the number of rows of the embedding table: the highest id plus one."""

    @property
    def context_length(self) -> int:
        """Return the maximum number of tokens of a row."""

    @property
    def pad_token_id(self) -> int:
        """Return the id that pads rows."""

    @property
    def fingerprint(self) -> str:
        """Return a digest of the function from texts to ids."""

    def encode(self, texts: Sequence[str], *, truncate: bool) -> BatchEncoding:
        """Clean, encode and pad texts.

        Args:
            texts: Any number of strings.
            truncate: Truncate texts over the context length and keep the end token. If false, such a text is an error.

        Raises:
            ConfigError: If `texts` is a string instead of a list.
            DataError: If an element is not a string, or is too long and `truncate` is false.
        """

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts without truncation, to see what the tokenizer does not know or drops.

        Raises:
            ConfigError: If `texts` is a string instead of a list.
            DataError: If an element is not a string.
        """

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that `load_tokenizer` reads as an equal tokenizer."""


def load_tokenizer(path: Path, context_length: int, model_path: Path | None = None) -> Tokenizer:
    """Read a file of `TOKENIZER_FILES`, or a merges file of CLIP of another name (.txt or .gz).

    Args:
        model_path: See `find_tokenizer`.

    Raises:
        WeightsError: If the file is missing or damaged, or has another kind of tokenizer.
    """
    model_folder = model_path if model_path is not None and model_path.is_dir() else path.parent
    rules = OpenClipTextRules.read(model_folder)
    clip = _load_clip_tokenizer(path, context_length)
    if clip is not None:
        if rules is not None:
            rules.require_clip(model_folder)
        return clip
    config = TokenizerConfig.read(path.parent)
    backend = _read_backend(path, config)
    build = SiglipTokenizer.from_backend if is_siglip(backend, config, path) else build_hf_tokenizer
    return build(backend, config, rules, path, context_length)


def find_tokenizer(path: Path, context_length: int, model_path: Path | None = None) -> Tokenizer | None:
    """Find the tokenizer in a directory, or beside a model file; `path` may also be a tokenizer file.

    Args:
        model_path: Folder of the model if the tokenizer is from another place: its `open_clip_config.json` says how
            texts are cleaned.

    Returns:
        The first of `TOKENIZER_FILES`, or None if there is none.

    Raises:
        WeightsError: If a file is damaged, or has another kind of tokenizer.
    """
    if path.suffix in (".json", ".txt", ".gz", ".model") and not path.is_dir():
        return load_tokenizer(path, context_length, model_path)
    directory = path if path.is_dir() else path.parent
    for name in TOKENIZER_FILES:
        if (directory / name).is_file() and (name != "vocab.json" or (directory / MERGES_FILE).is_file()):
            return load_tokenizer(directory / name, context_length, model_path)
    return None


def _load_clip_tokenizer(path: Path, context_length: int) -> BPETokenizer | None:
    """Return the tokenizer if the file is one of CLIP's."""
    match path.name:
        case name if name == "vocab.txt" or path.suffix == ".model":
            return None
        case "vocab.json":
            is_clip = is_clip_vocabulary(path)
            return BPETokenizer.from_files(path, path.parent / MERGES_FILE, context_length) if is_clip else None
        case _ if path.suffix in (".txt", ".gz"):
            return BPETokenizer.from_merges(path, context_length)
        case _:
            return BPETokenizer.load(path, context_length) if _CLIP_PATTERN.search(read_text(path)) else None


def _read_backend(path: Path, config: TokenizerConfig) -> tokenizers.Tokenizer:
    match path.name:
        case "vocab.txt":
            return read_wordpiece(path, config)
        case "vocab.json":
            return read_byte_level_bpe(path, path.parent / MERGES_FILE)
        case _ if path.suffix == ".model":
            return read_sentencepiece(path)
        case _:
            return parse_tokenizer_json(read_text(path), path)
