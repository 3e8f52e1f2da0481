"""Patterns such as shards/{00000..00012}.tar that name many files."""

import itertools
import math
import re
from collections.abc import Sequence

from zebra.errors import DataError

MAX_SHARDS = 1_000_000
"""Maximum number of names of a pattern; LAION-5B has half a million shards."""
MAX_NAMES_LISTED = 16
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def expand_braces(pattern: str) -> list[str]:
    """Expand ranges and choices in braces, as a shell does; raise DataError for more than MAX_SHARDS names.

    >>> expand_braces("{train,more}/{008..010}.tar")[:4]
    ['train/008.tar', 'train/009.tar', 'train/010.tar', 'more/008.tar']
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    num_names = math.prod(map(_count_choices, parts[1::2]))
    if num_names > MAX_SHARDS:
        raise DataError(f"the pattern {pattern[:200]} names more than {MAX_SHARDS:,} files. Give a smaller range")
    choices = [_expand_choices(part) if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(combination) for combination in itertools.product(*choices)]


def make_brace_pattern(names: Sequence[str]) -> str | None:
    """Return a pattern for names: a range if they are numbered consecutively, otherwise the list of a few names.

    >>> make_brace_pattern(["a-008.tar", "a-009.tar", "a-010.tar"]), make_brace_pattern(["a.tar", "b.tar"])
    ('a-{008..010}.tar', '{a.tar,b.tar}')
    """
    few_names = None if len(names) > MAX_NAMES_LISTED else names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
    matches = [match for name in names if (match := re.fullmatch(r"(.*?)(\d{1,18})(\D*)", name))]
    numbers = sorted((match[2] for match in matches), key=int)
    if len(matches) < len(names) or int(numbers[-1]) - int(numbers[0]) + 1 != len(names):
        return few_names
    pattern = f"{matches[0][1]}{{{numbers[0]}..{numbers[-1]}}}{matches[0][3]}"
    return pattern if sorted(expand_braces(pattern)) == sorted(names) else few_names


def _parse_range(body: str) -> range | None:
    limits = _RANGE.fullmatch(body)
    if limits is None:
        return None
    first, last = int(limits[1]), int(limits[2])
    return range(first, last + 1) if first <= last else range(first, last - 1, -1)


def _count_choices(body: str) -> int:
    numbers = _parse_range(body)
    return body.count(",") + 1 if numbers is None else len(numbers)


def _expand_choices(body: str) -> list[str]:
    numbers = _parse_range(body)
    width = len(body.partition("..")[0])
    return body.split(",") if numbers is None else [f"{number:0{width}d}" for number in numbers]
