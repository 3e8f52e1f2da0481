"""How much one request may ask for; what the schema, the page and the tests agree on."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

MAX_LABELS = 1000
MAX_TEMPLATES = 100
MAX_PROMPTS = 10_000
"""Labels × templates."""
MAX_TEXT_LENGTH = 2000
"""Characters."""
MAX_INPUTS = 64
"""Pictures, or texts, of one request."""
MAX_HITS = 200
"""k."""
MAX_RESULT_WINDOW = 10_000
"""offset + k: how far one can leaf."""
MAX_QUERY_TERMS = 32
"""Rows or texts that a query is made of."""
MAX_BODY_BYTES = 16 * 2**20
BODY_TIMEOUT_SECONDS = 30.0
"""For a whole body to arrive."""
MAX_TOTAL_BODY_BYTES = 16 * MAX_BODY_BYTES
"""Of the bodies of all requests together."""
MAX_PIXELS = 30_000_000
"""Width × height of a picture, checked before it is decoded."""
ThumbnailSide = Annotated[Literal[96, 192, 384], BeforeValidator(int)]
"""Of thumbnails, in pixels."""
