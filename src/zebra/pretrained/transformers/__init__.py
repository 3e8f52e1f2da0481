"""Reading and writing of model folders in the layout of Hugging Face transformers."""

from zebra.pretrained.transformers.adapter import write_adapter
from zebra.pretrained.transformers.config import is_transformers_model
from zebra.pretrained.transformers.layout import read_transformers, write_transformers, write_transformers_files
from zebra.pretrained.transformers.tokenizer import write_tokenizer

__all__ = [
    "is_transformers_model",
    "read_transformers",
    "write_adapter",
    "write_tokenizer",
    "write_transformers",
    "write_transformers_files",
]
