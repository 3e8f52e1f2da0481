"""Captions in, token ids out: cleaning and the tokenizers of CLIP (byte-level BPE, CLIP §2.4) and of SigLIP."""

from zebra.text.batch_encoding import Encoded
from zebra.text.bpe import Tokenizer
from zebra.text.clean import clean
from zebra.text.siglip_tokenizer import PaddedTokenizer
from zebra.text.tokenizers import Words, find_words, open_words

__all__ = ["Encoded", "PaddedTokenizer", "Tokenizer", "Words", "clean", "find_words", "open_words"]
