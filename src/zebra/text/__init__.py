"""Captions in, token ids out: cleaning and the tokenizers of CLIP (byte-level BPE, CLIP §2.4) and of SigLIP."""

from zebra.text.clean import clean
from zebra.text.padded import PaddedTokenizer
from zebra.text.rows import Encoded
from zebra.text.tokenizer import Tokenizer
from zebra.text.words import Words, find_words, open_words

__all__ = ["Encoded", "PaddedTokenizer", "Tokenizer", "Words", "clean", "find_words", "open_words"]
