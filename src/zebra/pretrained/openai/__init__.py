"""OpenAI's original `.pt` files, read without running anything in them."""

from zebra.pretrained.openai.layout import DIGESTS, check_digest, file_name, read_openai

__all__ = ["DIGESTS", "check_digest", "file_name", "read_openai"]
