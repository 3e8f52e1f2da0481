"""Captions in, token ids out: cleaning and byte-level BPE as CLIP defines them (CLIP §2.4)."""

from zebra.text.clean import clean
from zebra.text.tokenizer import Encoded, Tokenizer

__all__ = ["Encoded", "Tokenizer", "clean"]
