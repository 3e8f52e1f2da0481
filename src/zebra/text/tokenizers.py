"""A model folder or a tokenizer file in, the tokenizer that it holds out, CLIP's or SigLIP's."""

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
"""OpenAI's name for its merges."""
_CLIP_PATTERN = re.compile(r'"end_of_word_suffix":\s*"</w>"')


class Tokenizer(Protocol):
    """The part of a tokenizer that a bundle needs."""

    @property
    def vocab_size(self) -> int:
        """Rows the embedding table needs: one more than the highest id."""

    @property
    def context_length(self) -> int:
        """Most tokens of a row."""

    @property
    def fingerprint(self) -> str:
        """Digest of the function from texts to ids."""

    def encode(self, texts: Sequence[str], *, truncate: bool) -> BatchEncoding:
        """Clean, encode and pad texts."""

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that `open_words` reads to an equal tokenizer."""


def load_tokenizer(path: Path, context_length: int) -> Tokenizer:
    """Read a `tokenizer.json` of either kind, or a merges file (.txt or .gz).

    Raises:
        WeightsError: The file is missing, damaged, or holds another kind of tokenizer.
    """
    if path.suffix in (".txt", ".gz"):
        return BPETokenizer.from_merges(path, context_length)
    if _CLIP_PATTERN.search(read_text(path)):
        return BPETokenizer.load(path, context_length)
    return SiglipTokenizer.load(path, context_length)


def find_tokenizer(path: Path, context_length: int) -> Tokenizer | None:
    """Look for a tokenizer in a folder, or beside the file of a model; a file of words is itself the tokenizer.

    The first of these counts: `tokenizer.json`, `vocab.json` with `merges.txt`, `bpe_simple_vocab_16e6.txt.gz`.

    Returns:
        None if there is none of them.

    Raises:
        WeightsError: What is there is damaged, or is a `spiece.model`, which has to be converted first.
    """
    if path.suffix in (".json", ".txt", ".gz") and not path.is_dir():
        return load_tokenizer(path, context_length)
    folder = path if path.is_dir() else path.parent
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder / "tokenizer.json", context_length)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        return BPETokenizer.from_files(vocabulary, merges, context_length)
    if (folder / OPENAI_MERGES_FILE).is_file():
        return BPETokenizer.from_merges(folder / OPENAI_MERGES_FILE, context_length)
    if path.is_dir() and (folder / "spiece.model").is_file():
        raise WeightsError(
            f"{folder} holds its vocabulary as spiece.model alone; write the tokenizer.json that zebra reads with: "
            f"python -c \"from transformers import T5Tokenizer as T; T.from_pretrained('{folder}', extra_ids=0, "
            f"pad_token='</s>').save_pretrained('{folder}')\" (needs: pip install transformers sentencepiece protobuf)"
        )
    return None
