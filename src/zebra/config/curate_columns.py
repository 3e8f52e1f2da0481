"""Conditions of `zebra curate` on numeric columns of the pool."""

import math
import re
from dataclasses import dataclass

from zebra.errors import ConfigError

_COMPARISON = re.compile(r"\s*(\w[\w.-]*)\s*(>=|<=|>|<)\s*(\S+)\s*")
_TOP = re.compile(r"\s*(\w[\w.-]*)\s+top\s+([^\s%]+)\s*(%?)\s*")


@dataclass(frozen=True, slots=True)
class ColumnCondition:
    """What a column of a kept pair must be."""

    column: str
    """Name in lower case."""
    operator: str
    """>=, <=, > or <; or "top", for the pairs with the largest values."""
    value: float
    """The limit, or the fraction of the pairs."""


def parse_condition(text: str) -> ColumnCondition:
    """Parse a condition such as "similarity >= 0.28" or "clip_l14_similarity_score top 30%".

    Raises:
        ConfigError: The text has another form, or the value is no number or no fraction.
    """
    if match := _TOP.fullmatch(text):
        fraction = _parse_number(match[2], text) / (100 if match[3] else 1)
        if not 0 < fraction <= 1:
            raise ConfigError(f"condition {text!r}: the fraction must be above 0 and at most 1, or 100%")
        return ColumnCondition(match[1].lower(), "top", fraction)
    if match := _COMPARISON.fullmatch(text):
        return ColumnCondition(match[1].lower(), match[2], _parse_number(match[3], text))
    raise ConfigError(f"condition {text!r} is not understood. Write COLUMN >= NUMBER, or COLUMN top 30%")


def _parse_number(number: str, text: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ConfigError(f"condition {text!r}: {number!r} is no number")
    return value
