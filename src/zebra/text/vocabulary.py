"""Merges in, CLIP's vocabulary and the Rust tokenizer that applies it out (CLIP §2.4).

The ids are laid out as

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
MIN_VOCAB_SIZE = 514  # 256 bytes, 256 bytes at a word's end, SOT, EOT

# Contractions, runs of letters, single digits, runs of anything else that is not whitespace. CLIP's pattern
# ignores case; on lower-case text that shows in two characters, and spelling them out doubles the speed:
# ſ passes for the s of a contraction, and U+0345 (a mark whose capital is a letter) belongs to no word.
_WORD_PATTERN = r"'[sſtmd]|'re|'ve|'ll|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"


def byte_alphabet() -> list[str]:
    """Return the byte symbols in the order of their ids: printable bytes as themselves, then the others.

    Bytes that would print badly (controls, space, soft hyphen) are shown as the characters from U+0100 on.
    """
    printable = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))]
    return printable + [chr(256 + index) for index in range(256 - len(printable))]


def vocabulary(merges: Sequence[Merge]) -> list[str]:
    """List every symbol at the position that is its id.

    Raises:
        WeightsError: a merge joins a symbol that does not exist yet, or makes one that does.
    """
    symbols = byte_alphabet() + [symbol + WORD_END for symbol in byte_alphabet()]
    known = {*symbols, SOT, EOT}
    for number, (left, right) in enumerate(merges, start=1):
        for part in (left, right):
            if part not in known:
                raise WeightsError(f"merge {number} joins {left!r} and {right!r}, but no {part!r} exists yet")
        if left + right in known:
            raise WeightsError(f"merge {number} makes {left + right!r}, which exists already")
        known.add(left + right)
        symbols.append(left + right)
    return [*symbols, SOT, EOT]


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Split text into words, and words into byte symbols."""
    split = pre_tokenizers.Split(tokenizers.Regex(_WORD_PATTERN), behavior="removed", invert=True)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def build_tokenizer(symbols: Sequence[str], merges: Sequence[Merge]) -> tokenizers.Tokenizer:
    """Assemble the Rust tokenizer; it expects clean text.

    No word spans a space, so a text's ids are those of its parts between spaces, each encoded by itself.
    """
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    model = models.BPE(vocab=vocabulary, merges=list(merges), end_of_word_suffix=WORD_END)
    rust = tokenizers.Tokenizer(model)
    rust.pre_tokenizer = pre_tokenizer()
    ends = [(symbol, vocabulary[symbol]) for symbol in (SOT, EOT)]
    rust.post_processor = processors.TemplateProcessing(single=f"{SOT} $A {EOT}", special_tokens=ends)
    rust.decoder = decoders.ByteLevel()
    rust.add_special_tokens([SOT, EOT])
    rust.encode_special_tokens = True  # in user text they are ordinary characters
    return rust
