"""Find and load the tokenizer of a model."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from zebra.errors import WeightsError
from zebra.text.batch_encoding import BatchEncoding
from zebra.text.bpe import BPETokenizer
from zebra.text.files import read_text
from zebra.text.siglip_tokenizer import SiglipTokenizer

OPENAI_MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
"""The name of OpenAI's merges file."""
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

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that `load_tokenizer` reads as an equal tokenizer."""


def load_tokenizer(path: Path, context_length: int) -> Tokenizer:
    """Read a `tokenizer.json` of either kind, or a merges file (.txt or .gz).

    Raises:
        WeightsError: If the file is missing or damaged, or has another kind of tokenizer.
    """
    if path.suffix in (".txt", ".gz"):
        return BPETokenizer.from_merges(path, context_length)
    if _CLIP_PATTERN.search(read_text(path)):
        return BPETokenizer.load(path, context_length)
    return SiglipTokenizer.load(path, context_length)


def find_tokenizer(path: Path, context_length: int) -> Tokenizer | None:
    """Find the tokenizer in a directory, or beside a model file; `path` may also be a tokenizer file.

    Search order: `tokenizer.json`, `vocab.json` with `merges.txt`, `bpe_simple_vocab_16e6.txt.gz`.

    Returns:
        The tokenizer, or None if there is none.

    Raises:
        WeightsError: If a file is damaged, or there is only a `spiece.model`, which must be converted first.
    """
    if path.suffix in (".json", ".txt", ".gz") and not path.is_dir():
        return load_tokenizer(path, context_length)
    directory = path if path.is_dir() else path.parent
    if (directory / "tokenizer.json").is_file():
        return load_tokenizer(directory / "tokenizer.json", context_length)
    vocab_path, merges_path = directory / "vocab.json", directory / "merges.txt"
    if vocab_path.is_file() and merges_path.is_file():
        return BPETokenizer.from_files(vocab_path, merges_path, context_length)
    if (directory / OPENAI_MERGES_FILE).is_file():
        return BPETokenizer.from_merges(directory / OPENAI_MERGES_FILE, context_length)
    if path.is_dir() and (directory / "spiece.model").is_file():
        raise WeightsError(
            f"{directory} has only a spiece.model, which zebra does not read. Convert it to tokenizer.json with: "
            f"python -c \"from transformers import T5Tokenizer as T; T.from_pretrained('{directory}', extra_ids=0, "
            f"pad_token='</s>').save_pretrained('{directory}')\" "
            "(needs: pip install transformers sentencepiece protobuf)"
        )
    return None
