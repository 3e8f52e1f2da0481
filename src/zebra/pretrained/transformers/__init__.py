"""The layout of Hugging Face transformers, in and out."""

from zebra.pretrained.transformers.layout import read_transformers, write_tokenizer, write_transformers

__all__ = ["read_transformers", "write_tokenizer", "write_transformers"]
