"""Cleaning of captions: entities, markup, invisible characters and white space."""

import re
from collections.abc import Callable
from html import unescape

import pyarrow as pa
import pyarrow.compute as pc

from zebra.config.curate_text import TextRules
from zebra.curate.measurements import Measurement
from zebra.curate.pipeline import Stage

CLEAN_VERSION = 1
"""Changes when a cleaned caption may change."""
MAX_UNESCAPES = 2
"""Rounds of unescaping; pages often have `&amp;quot;`, which was escaped twice."""
_INLINE_TAGS = "a|abbr|acronym|b|big|bdi|bdo|cite|code|em|font|i|ins|kbd|mark|q|s|small|span|strong|sub|sup|tt|u|wbr"
_BLOCK_TAGS = (
    "article|aside|blockquote|body|br|button|caption|center|dd|div|dl|dt|embed|figcaption|figure|footer|form|h[1-6]|"
    "head|header|hr|html|iframe|img|input|label|li|link|meta|nav|noscript|object|ol|option|p|picture|pre|script|"
    "section|select|source|style|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video"
)
# No pattern can look further than the next `<` or twice at the same text, so that 1 MB takes linear time.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_HIDDEN_CONTENT = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE)
_INLINE_MARKUP = re.compile(rf"</?(?:{_INLINE_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BLOCK_MARKUP = re.compile(rf"</?(?:{_BLOCK_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_CONTROLS = r"\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
_INVISIBLE = r"\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # not the joiners of emoji and Persian
_CONTROL_CHARACTERS = re.compile(f"[{_CONTROLS}]")
_INVISIBLE_CHARACTERS = re.compile(f"[{_INVISIBLE}]")
_CANDIDATE = (
    r"&[#a-zA-Z]|<|^\s|\s$|\s\s|[\t-\r\x00-\x1f\x7f-\x{9f}\x{ad}\x{61c}\x{200b}\x{200e}\x{200f}\x{2028}-\x{202e}"
    r"\x{2060}-\x{2069}\x{feff}\x{a0}\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}]"
)
"""Pattern of RE2 that every caption matches which cleaning changes."""


def cleaning_stages(config: TextRules) -> list[Stage]:
    """Return the measurement that replaces `text` and adds `cleaned`, the kinds of changes of each caption."""
    if not config.clean:
        return []
    return [
        Measurement(
            "clean",
            f"clean {CLEAN_VERSION}",
            ("text",),
            pa.schema({"text": pa.string(), "cleaned": pa.list_(pa.string())}),
            lambda table: rewrite_captions(table["text"], _CANDIDATE, clean_caption, "cleaned"),
            is_parallel=True,
        )
    ]


def clean_caption(text: str) -> tuple[str, list[str]]:
    """Return a caption without entities, markup and invisible characters, and what was changed.

    >>> clean_caption("Tom &amp;amp; <b>Jerry</b><br>a  cartoon")
    ('Tom & Jerry a cartoon', ['entities', 'markup', 'white space'])
    """
    changes = []

    def note(kind: str, new: str) -> str:
        if new != text:
            changes.append(kind)
        return new

    text = note("entities", _unescape(text))
    text = note("markup", _strip_markup(text))
    text = note("control characters", _CONTROL_CHARACTERS.sub("", text))
    text = note("invisible characters", _INVISIBLE_CHARACTERS.sub("", text))
    text = note("white space", " ".join(text.split()))
    return text, changes


def rewrite_captions(
    text: pa.ChunkedArray, candidate: str, rewrite: Callable[[str], tuple[str, list[str]]], changes_column: str
) -> pa.Table:
    """Rewrite the captions that may need it.

    Args:
        candidate: Pattern of RE2 that every caption matches which `rewrite` changes.
        rewrite: Returns a caption and the kinds of changes, without line breaks.
        changes_column: Name of the column with the kinds of changes, null if there are none.

    Returns:
        The columns `text` and `changes_column`.
    """
    text = text.combine_chunks()
    is_candidate = pc.fill_null(pc.match_substring_regex(text, candidate), False)
    rewritten = [rewrite(caption) for caption in text.filter(is_candidate).to_pylist()]
    new_text = pc.replace_with_mask(text, is_candidate, pa.array([caption for caption, _ in rewritten], pa.string()))
    kinds = pa.array(["\n".join(changes) or None for _, changes in rewritten], pa.string())
    changes = pc.replace_with_mask(pa.nulls(len(text), pa.string()), is_candidate, kinds)
    return pa.table({"text": new_text, changes_column: pc.split_pattern(changes, "\n")})


def _unescape(text: str) -> str:
    for _ in range(MAX_UNESCAPES):
        # Only with a semicolon: `unescape` itself takes "bread &parsley" for a paragraph sign.
        unescaped = _ENTITY.sub(lambda match: unescape(match[0]), text)
        if unescaped == text:
            break
        text = unescaped
    return text


def _strip_markup(text: str) -> str:
    if "<" not in text:
        return text
    text = _HIDDEN_CONTENT.sub(" ", text)
    return _BLOCK_MARKUP.sub(" ", _INLINE_MARKUP.sub("", text))
