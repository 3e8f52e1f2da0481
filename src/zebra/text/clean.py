"""A caption as found on the web in, the lower-case text that CLIP's vocabulary is defined on out."""

import html
import re

import ftfy

_WHITESPACE = re.compile(r"\s+")


def clean(text: str) -> str:
    r"""Mend the encoding, undo HTML entities, collapse whitespace and lower the case.

    Entities are undone twice, because web captions often arrive escaped twice over.

    >>> clean("  Caf&amp;eacute;\n in   PARIS ")
    'café in paris'
    """
    # ftfy is a hundred times slower than the rest, and has nothing to mend in plain ASCII without entities.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _WHITESPACE.sub(" ", text).strip().lower()
