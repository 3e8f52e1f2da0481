"""Limits on one request, shared by the schema, the web page and the tests."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

MAX_LABELS = 1000
MAX_TEMPLATES = 100
MAX_PROMPTS = 10_000
"""Maximum number of labels × templates."""
MAX_TEXT_LENGTH = 2000
"""In characters."""
MAX_INPUTS = 64
"""Maximum number of images, or texts, in one request."""
MAX_HITS = 200
"""Maximum k of a search."""
MAX_RESULT_WINDOW = 10_000
"""Maximum offset + k of a search."""
MAX_QUERY_TERMS = 32
"""Maximum number of rows, or of texts, in one query."""
MAX_BODY_BYTES = 16 * 2**20
BODY_TIMEOUT_SECONDS = 30.0
"""Time for a body to arrive in full."""
MAX_TOTAL_BODY_BYTES = 16 * MAX_BODY_BYTES
"""Maximum size of the bodies of all requests together."""
MAX_PIXELS = 30_000_000
"""Maximum width × height of an image, checked before decoding."""
ThumbnailSide = Annotated[Literal[96, 192, 384], BeforeValidator(int)]
"""Longer side of a thumbnail, in pixels."""
