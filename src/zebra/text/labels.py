"""Class names for zero-shot classification: validation, and reading a file."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from zebra.errors import ConfigError
from zebra.text.equal_texts import find_equal_texts
from zebra.text.inputs import list_texts
from zebra.text.tokenizers import Tokenizer


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
            raise _repeated_error(first_by_name[name], text)
        first_by_name[name] = text
    return texts


def require_distinct_labels(labels: Sequence[str], tokenizer: Tokenizer) -> None:
    """Raise ConfigError if two labels are one text to the model, such as "Cat" and "cat" to most tokenizers."""
    for index, first in enumerate(find_equal_texts(tokenizer, [[label] for label in labels])):
        if first != index:
            raise _repeated_error(labels[first], labels[index])


def read_labels(path: Path) -> list[str]:
    """Read class names from a UTF-8 file, one per line; blank lines are skipped.

    Raises:
        ConfigError: The file is missing or unreadable, or has no names.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"cannot read labels from {path}: {reason}. Name a text file with one label per line."
        ) from error
    labels = [line.strip() for line in lines if line.strip()]
    if not labels:
        raise ConfigError(f"{path} contains no labels. Write one per line.")
    return labels


def _repeated_error(first: str, second: str) -> ConfigError:
    names = repr(first) if first == second else f"{first!r} and {second!r} are one text to the model"
    return ConfigError(f"labels are repeated: {names}. Name each class once, or its score is split.")
