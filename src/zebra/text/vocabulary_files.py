"""Vocabulary files from before `tokenizer.json`.

BERT has `vocab.txt`, RoBERTa has `vocab.json` and `merges.txt`.
"""

from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from zebra.errors import WeightsError
from zebra.text.files import read_json_object, read_text
from zebra.text.tokenizer_config import TokenizerConfig
from zebra.text.vocabulary import WORD_END


def read_wordpiece(path: Path, config: TokenizerConfig) -> tokenizers.Tokenizer:
    """Read BERT's vocabulary: one token per line, whose number is the id.

    Raises:
        WeightsError: If the file is missing or damaged.
    """
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    vocab = {token: index for index, token in enumerate(lines)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=config.token("unk_token") or "[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def read_byte_level_bpe(vocab_path: Path, merges_path: Path) -> tokenizers.Tokenizer:
    """Read the vocabulary of RoBERTa: bytes as printable characters and merges of them.

    Raises:
        WeightsError: If a file is missing or damaged, or the two do not match.
    """
    lines = read_text(merges_path).split("\n")
    try:
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(left, right) for left, right in pairs]
        backend = tokenizers.Tokenizer(models.BPE(read_json_object(vocab_path), merges))
    except Exception as error:  # the library raises plain Exception
        raise WeightsError(
            f"{vocab_path} and {merges_path.name} are not a vocabulary and its merges ({error}); copy them again from "
            "the source of the model"
        ) from error
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def is_clip_vocabulary(vocab_path: Path) -> bool:
    """Return whether a `vocab.json` is CLIP's, whose tokens at the end of a word have a mark."""
    return any(token.endswith(WORD_END) for token in read_json_object(vocab_path))
