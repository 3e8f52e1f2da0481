"""A caption as found on the web in, the text that a vocabulary is defined on out."""

import html
import re
import string
from collections.abc import Callable, Mapping
from typing import Literal

import ftfy

Cleaning = Literal["lower", "whitespace", "canonicalize", "siglip"]
"""lower, whitespace and canonicalize are open_clip's names; siglip is the rule of SigLIP in transformers."""

_WHITESPACE = re.compile(r"\s+")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean_text(text: str) -> str:
    r"""Mend the encoding, undo HTML entities, collapse whitespace and lower the case.

    Entities are undone twice, because web captions often arrive escaped twice over.

    >>> clean("  Caf&amp;eacute;\n in   PARIS ")
    'café in paris'
    """
    return _collapse_whitespace(_fix_encoding(text)).lower()


def clean_and_split(text: str) -> list[str]:
    """Return what `clean` leaves, divided at its spaces."""
    # The usual case in a third of the time.
    return text.lower().split() if _is_clean_ascii(text) else clean_text(text).split()


def replace_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs by U+FFFD: Rust has no way to say them, and `clean` has none left."""
    return ftfy.fixes.fix_surrogates(text)


def _clean_whitespace(text: str) -> str:
    """As `clean`, but the case stays."""
    return _collapse_whitespace(_fix_encoding(text))


def _clean_canonicalize(text: str) -> str:
    """As `clean`, and without ASCII punctuation; an underscore counts as a space."""
    return _collapse_whitespace(_fix_encoding(text).replace("_", " ").translate(_NO_PUNCTUATION).lower())


def _clean_siglip(text: str) -> str:
    """Lower the case, drop ASCII punctuation and collapse whitespace; nothing is mended."""
    return _collapse_whitespace(text.lower().translate(_NO_PUNCTUATION))


def _fix_encoding(text: str) -> str:
    if _is_clean_ascii(text):
        return text
    return html.unescape(html.unescape(ftfy.fix_text(text)))


def _is_clean_ascii(text: str) -> bool:
    """Say whether there is nothing to mend: ftfy is a hundred times slower than the rest."""
    return text.isascii() and text.isprintable() and "&" not in text


def _collapse_whitespace(text: str) -> str:
    return _WHITESPACE.sub(" ", text).strip()


CLEANING_FUNCTIONS: Mapping[Cleaning, Callable[[str], str]] = {
    "lower": clean_text,
    "whitespace": _clean_whitespace,
    "canonicalize": _clean_canonicalize,
    "siglip": _clean_siglip,
}
