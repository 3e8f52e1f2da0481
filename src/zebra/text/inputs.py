"""Texts that callers pass: lists, tuples, generators, arrays and table columns."""

from collections.abc import Iterable, Mapping, Set

from zebra.errors import ConfigError


def list_texts(texts: Iterable[str], name: str) -> list[str]:
    """Return any ordered iterable of texts as a list.

    Args:
        name: Name of the argument in errors.

    Raises:
        ConfigError: `texts` is a single text, unordered or no iterable, or an item is not a text.

    >>> list_texts((word for word in ("horse", "cat")), "labels")
    ['horse', 'cat']
    """
    if isinstance(texts, str):
        raise ConfigError(f"{name} must be a list of texts. Put a single text in [ ].")
    if isinstance(texts, Mapping | Set | bytes | bytearray) or not isinstance(texts, Iterable):
        raise ConfigError(f"{name} must be a list or another ordered iterable of texts, not {type(texts).__name__}.")
    result = list(texts)
    for index, text in enumerate(result):
        if not isinstance(text, str):
            raise ConfigError(f"{name}[{index}] is {str(text)[:40]} ({type(text).__name__}), not a text. Pass strings.")
    return [str(text) for text in result]  # also NumPy's strings
