"""A model folder or a tokenizer file in, the tokenizer that it holds out, CLIP's or SigLIP's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from zebra.errors import WeightsError
from zebra.text.batch_encoding import Encoded
from zebra.text.bpe import Tokenizer
from zebra.text.files import read_text
from zebra.text.siglip_tokenizer import PaddedTokenizer

PUBLISHED = "bpe_simple_vocab_16e6.txt.gz"
"""OpenAI's name for its merges."""
_CLIP = re.compile(r'"end_of_word_suffix":\s*"</w>"')


class Words(Protocol):
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

    def encode(self, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Clean, encode and pad texts."""

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that `open_words` reads to an equal tokenizer."""


def open_words(path: Path, context_length: int) -> Words:
    """Read a `tokenizer.json` of either kind, or a merges file (.txt or .gz).

    Raises:
        WeightsError: The file is missing, damaged, or holds another kind of tokenizer.
    """
    if path.suffix in (".txt", ".gz"):
        return Tokenizer.from_merges(path, context_length)
    if _CLIP.search(read_text(path)):
        return Tokenizer.load(path, context_length)
    return PaddedTokenizer.load(path, context_length)


def find_words(place: Path, context_length: int) -> Words | None:
    """Look for a tokenizer in a folder, or beside the file of a model; a file of words is itself the tokenizer.

    The first of these counts: `tokenizer.json`, `vocab.json` with `merges.txt`, `bpe_simple_vocab_16e6.txt.gz`.

    Returns:
        None if there is none of them.

    Raises:
        WeightsError: What is there is damaged, or is a `spiece.model`, which has to be converted first.
    """
    if place.suffix in (".json", ".txt", ".gz") and not place.is_dir():
        return open_words(place, context_length)
    folder = place if place.is_dir() else place.parent
    if (folder / "tokenizer.json").is_file():
        return open_words(folder / "tokenizer.json", context_length)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        return Tokenizer.from_files(vocabulary, merges, context_length)
    if (folder / PUBLISHED).is_file():
        return Tokenizer.from_merges(folder / PUBLISHED, context_length)
    if place.is_dir() and (folder / "spiece.model").is_file():
        raise WeightsError(
            f"{folder} holds its vocabulary as spiece.model alone; write the tokenizer.json that zebra reads with: "
            f"python -c \"from transformers import T5Tokenizer as T; T.from_pretrained('{folder}', extra_ids=0, "
            f"pad_token='</s>').save_pretrained('{folder}')\" (needs: pip install transformers sentencepiece protobuf)"
        )
    return None
