"""Limits on one request, shared by the schema, the web page and the tests."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

MAX_LABELS = 1000
MAX_TEMPLATES = 100
MAX_PROMPTS = 10_000
"""Maximum number of labels × templates."""
MAX_TEXT_LENGTH = 2000
"""In characters."""
MAX_TOTAL_TEXT_LENGTH = 1_000_000
"""Maximum number of characters of all texts, or of all prompts, of one request."""
MAX_INPUTS = 64
"""Maximum number of images, or texts, in one request."""
MAX_EMBEDDING_INPUTS = 2048
"""Maximum number of texts in one request to /v1/embeddings, as in OpenAI's API."""
MAX_HITS = 200
"""Maximum k of a search."""
MAX_RESULT_WINDOW = 10_000
"""Maximum offset + k of a search."""
MAX_ROW_IDS = 5000
"""Rows that one request may name: those of a map."""
MAX_DOWNLOADS = 1000
"""Originals in one zip file."""
MAX_FACETS = 64
"""Columns with a selection in one request."""
MAX_QUERY_TERMS = 32
"""Maximum number of rows, or of texts, in one query."""
MAX_BODY_BYTES = 16 * 2**20
MAX_JSON_FIELDS = 100_000
"""Maximum number of colons and opening brackets in a body: fields, objects and lists take up to 200 bytes each."""
MAX_JSON_VALUES = 100_000
"""Maximum number of commas in a body."""
MAX_FORM_FIELDS = MAX_LABELS + MAX_TEMPLATES + 100
"""Maximum number of parts of a form that are not files."""
MAX_FORM_FIELD_BYTES = 64 * 2**10
BULK_PATHS = ("/v1/map/", "/v1/quiz/")
"""Paths that take vectors as numbers, or the answers of many people."""
MAX_BULK_JSON_FIELDS = 600_000
MAX_BULK_JSON_VALUES = 1_200_000
MAX_RESPONSE_BYTES = 32 * 2**20
MAX_UNSENT_BYTES = 4 * MAX_RESPONSE_BYTES
"""Bytes of all responses that wait for their clients to read, above which requests are rejected."""
BODY_TIMEOUT_SECONDS = 30.0
"""Time for a body to arrive in full."""
MAX_TOTAL_BODY_BYTES = 16 * MAX_BODY_BYTES
"""Maximum size of the bodies of all requests together."""
MAX_PIXELS = 30_000_000
"""Maximum width × height of an image, checked before decoding."""
MAX_TOTAL_PIXELS = 100_000_000
"""Maximum number of pixels of all images of one request."""
MAX_ERROR_LENGTH = 1000
"""Maximum number of characters of an error message, which may quote the request."""
ThumbnailSide = Annotated[Literal[96, 192, 384], BeforeValidator(int)]
"""Longer side of a thumbnail, in pixels."""
