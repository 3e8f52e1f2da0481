"""CLIP's vocabulary and the Rust tokenizer that applies it (CLIP §2.4).

The ids are

    0 … 255        the 256 bytes, each as one printable character (the byte map of GPT-2)
    256 … 511      the same bytes at the end of a word, marked "</w>"
    512 …          one symbol per merge, in the order they were learned
    the last two   SOT and EOT: the two highest ids, because the text tower pools at the largest id
"""

from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from zebra.errors import WeightsError

Merge = tuple[str, str]

SOT, EOT = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MIN_VOCAB_SIZE = 514  # 256 bytes, 256 bytes at the end of a word, SOT, EOT

# Contractions, runs of letters, single digits, runs of other characters except whitespace. CLIP's pattern ignores case.
# On lower-case text this matters for two characters, and writing them out doubles the speed: ſ matches the s of a
# contraction, and U+0345 (a mark whose capital is a letter) belongs to no word.
_WORD_PATTERN = r"'[sſtmd]|'re|'ve|'ll|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"


def byte_alphabet() -> list[str]:
    """Return the byte symbols in the order of their ids: printable bytes as themselves, then the others.

    Unprintable bytes (controls, space, soft hyphen) are represented by the characters from U+0100.
    """
    printable = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
    return printable + [chr(256 + index) for index in range(256 - len(printable))]


def byte_values() -> dict[str, int]:
    """Return the byte of each byte symbol."""
    values = [*range(33, 127), *range(161, 173), *range(174, 256)]
    values += [byte for byte in range(256) if byte not in values]
    return dict(zip(byte_alphabet(), values, strict=True))


def vocabulary(merges: Sequence[Merge]) -> list[str]:
    """Return all symbols, each at the index that is its id.

    Raises:
        WeightsError: If a merge uses an unknown symbol, or produces an existing one.
    """
    symbols = byte_alphabet() + [symbol + WORD_END for symbol in byte_alphabet()]
    known = {*symbols, SOT, EOT}
    for left, right in merges:
        if left not in known or right not in known:
            part = right if left in known else left
            raise WeightsError(f"merge {len(symbols) - 511} joins {left!r} and {right!r}, but {part!r} does not exist")
        symbol = left + right
        if symbol in known:
            raise WeightsError(f"merge {len(symbols) - 511} produces {symbol!r}, which already exists")
        known.add(symbol)
        symbols.append(symbol)
    return [*symbols, SOT, EOT]


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Return a pre-tokenizer that splits text into words, and words into byte symbols."""
    split = pre_tokenizers.Split(tokenizers.Regex(_WORD_PATTERN), behavior="removed", invert=True)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def build_tokenizer(symbols: Sequence[str], merges: Sequence[Merge]) -> tokenizers.Tokenizer:
    """Build the Rust tokenizer; it expects clean text.

    No word contains a space, so the ids of a text are those of its words, each encoded separately.
    """
    vocab = {symbol: index for index, symbol in enumerate(symbols)}
    model = models.BPE(vocab=vocab, merges=list(merges), end_of_word_suffix=WORD_END)
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer()
    ends = [(symbol, vocab[symbol]) for symbol in (SOT, EOT)]
    backend.post_processor = processors.TemplateProcessing(single=f"{SOT} $A {EOT}", special_tokens=ends)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([SOT, EOT])
    backend.encode_special_tokens = True  # encode them as ordinary characters in texts
    return backend
