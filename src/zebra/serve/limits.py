"""How much one request may ask for; what the schema, the page and the tests agree on."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

LABELS = 1000
TEMPLATES = 100
PROMPTS = 10_000
"""Labels × templates."""
TEXT_LENGTH = 2000
"""Characters."""
BATCH = 64
"""Pictures, or texts, of one request."""
HITS = 200
"""k."""
DEPTH = 10_000
"""offset + k: how far one can leaf."""
TERMS = 32
"""Rows or texts that a query is made of."""
BODY_BYTES = 16 * 2**20
BODY_SECONDS = 30.0
"""For a whole body to arrive."""
HELD_BYTES = 16 * BODY_BYTES
"""Of the bodies of all requests together."""
PIXELS = 30_000_000
"""Width × height of a picture, checked before it is decoded."""
Side = Annotated[Literal[96, 192, 384], BeforeValidator(int)]
"""Of thumbnails, in pixels."""
