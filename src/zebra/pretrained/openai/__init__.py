"""Reading of OpenAI's original `.pt` files, without executing code in them."""

from zebra.pretrained.openai.layout import OPENAI_SHA256, published_file_name, read_openai, verify_published_digest

__all__ = ["OPENAI_SHA256", "published_file_name", "read_openai", "verify_published_digest"]
