"""Comparison of texts regardless of case and Unicode form."""

import unicodedata

SPECIAL_PATTERN = (
    r"[\p{M}\x{DF}\x{130}\x{149}\x{1F0}\x{374}\x{37E}\x{387}\x{390}\x{3B0}\x{587}\x{958}-\x{95F}\x{9DC}-\x{9DF}"
    r"\x{A33}-\x{A36}\x{A59}-\x{A5E}\x{B5C}-\x{B5D}\x{F43}-\x{F69}\x{1100}-\x{11FF}\x{1E96}-\x{1E9E}\x{1F50}-\x{1FFF}"
    r"\x{2000}-\x{2001}\x{2126}-\x{212B}\x{2329}-\x{232A}\x{2ADC}\x{F900}-\x{FB4F}\x{1D15E}-\x{1D1C0}"
    r"\x{2F800}-\x{2FA1F}]"
)
"""Regular expression, in the syntax of RE2 and Rust, of all characters that NFC may change or combine with others, or
that fold to several characters. Without them, a text is in NFC, and a case-insensitive search equates what `fold_text`
equates."""


def fold_text(text: str) -> str:
    """Return a text for comparison: NFC, case folded, and with the Turkish İ as i.

    >>> fold_text("STRASSE") == fold_text("Straße"), fold_text("İstanbul")
    (True, 'istanbul')
    """
    casefolded = unicodedata.normalize("NFC", text).casefold().replace("i\u0307", "i")
    return unicodedata.normalize("NFC", casefolded)
