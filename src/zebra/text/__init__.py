"""Text cleaning, and the tokenizers of CLIP (byte-level BPE) and SigLIP."""

from zebra.text.batch_encoding import BatchEncoding
from zebra.text.bpe import BPETokenizer
from zebra.text.clean import clean_text
from zebra.text.siglip_tokenizer import SiglipTokenizer
from zebra.text.tokenizers import Tokenizer, find_tokenizer, load_tokenizer

__all__ = [
    "BPETokenizer",
    "BatchEncoding",
    "SiglipTokenizer",
    "Tokenizer",
    "clean_text",
    "find_tokenizer",
    "load_tokenizer",
]
