"""Cost of a request, computed from its sizes and checked before any work."""

import json
from collections.abc import Sequence

from zebra.serve.errors import HTTPError
from zebra.serve.limits import MAX_PROMPTS, MAX_RESPONSE_BYTES, MAX_TOTAL_PIXELS, MAX_TOTAL_TEXT_LENGTH

BYTES_PER_NUMBER = 24
"""Maximum length of a float in JSON, with its comma."""
BYTES_PER_SCORE = 48
"""Maximum length of a label's score in JSON, without the label."""


def require_affordable_prompts(labels: Sequence[str], templates: Sequence[str]) -> None:
    """Check the number of prompts, and their characters after formatting; HTTPError (422)."""
    num_prompts = len(labels) * len(templates)
    if num_prompts > MAX_PROMPTS:
        raise HTTPError(
            422,
            f"too many prompts: {len(labels)} labels × {len(templates)} templates are {num_prompts:,} prompts, "
            f"more than {MAX_PROMPTS:,}",
        )
    num_chars = len(templates) * sum(map(len, labels)) + len(labels) * sum(map(len, templates))
    _require_few_chars(num_chars, f"{num_prompts:,} prompts")


def require_affordable_texts(texts: Sequence[str]) -> None:
    """Check the number of characters; HTTPError (422)."""
    _require_few_chars(sum(map(len, texts)), f"{len(texts):,} texts")


def require_affordable_images(num_pixels: Sequence[int]) -> None:
    """Check the pixels of all images together; HTTPError (400)."""
    if sum(num_pixels) > MAX_TOTAL_PIXELS:
        raise HTTPError(
            400,
            f"too many pixels: the {len(num_pixels)} images have {sum(num_pixels):,} pixels together, more than "
            f"{MAX_TOTAL_PIXELS:,}. Send fewer images in a request, or smaller ones",
        )


def require_affordable_scores(labels: Sequence[str], num_images: int) -> None:
    """Check the length of a response with the scores of every label for every image; HTTPError (422)."""
    num_label_bytes = sum(len(json.dumps(label, ensure_ascii=False).encode("utf-8", "replace")) for label in labels)
    _require_short_response(
        num_images * (num_label_bytes + BYTES_PER_SCORE * len(labels)), "send fewer images, or fewer or shorter labels"
    )


def require_affordable_vectors(num_vectors: int, embed_dim: int) -> None:
    """Check the length of a response with vectors as numbers; HTTPError (422)."""
    _require_short_response(num_vectors * embed_dim * BYTES_PER_NUMBER, "send fewer inputs, or ask for base64")


def _require_few_chars(num_chars: int, what: str) -> None:
    if num_chars > MAX_TOTAL_TEXT_LENGTH:
        raise HTTPError(
            422, f"too much text: {what} have {num_chars:,} characters, more than {MAX_TOTAL_TEXT_LENGTH:,}"
        )


def _require_short_response(num_bytes: int, advice: str) -> None:
    if num_bytes > MAX_RESPONSE_BYTES:
        raise HTTPError(
            422,
            f"the response would be too large: about {num_bytes:,} bytes, more than {MAX_RESPONSE_BYTES:,}; {advice}",
        )
