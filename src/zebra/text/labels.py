"""Validation of class names."""

import unicodedata
from collections.abc import Iterable

from zebra.errors import ConfigError
from zebra.text.inputs import list_texts


def validate_labels(labels: Iterable[str]) -> list[str]:
    """Return class names as a list.

    Names that differ only in white space or in their Unicode form count as repeated.

    Raises:
        ConfigError: There are no labels, a label is empty, repeated or not a text, or `labels` is not an ordered
            iterable.
    """
    texts = list_texts(labels, "labels")
    if not texts:
        raise ConfigError("no labels. Name at least one class.")
    first_by_name: dict[str, str] = {}
    for text in texts:
        name = unicodedata.normalize("NFC", " ".join(text.split()))
        if not name:
            raise ConfigError("empty label. Give every class a name.")
        if name in first_by_name:
            raise repeated_error(first_by_name[name], text)
        first_by_name[name] = text
    return texts


def repeated_error(first: str, second: str) -> ConfigError:
    """Return the error for two labels that are one class name."""
    names = repr(first) if first == second else f"{first!r} and {second!r} are one name"
    return ConfigError(f"labels are repeated: {names}. Name each class once, or its score is split.")
