"""Match the class names of a prompt set with those of a dataset."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zebra.errors import DataError

_KEYS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: " ".join(name.casefold().split()),
    lambda name: " ".join(re.findall(r"\w+", name.casefold().replace("_", " "))),
)
"""Forms of a name that are compared, strictest first: exact, without case and extra spaces, words alone."""


@dataclass(frozen=True, slots=True)
class ClassnameMatch:
    """The class of a prompt set for each class of a dataset."""

    order: tuple[int, ...]
    """Index in the prompt set of each class of the dataset."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Pairs of names, of the dataset and of the prompt set, that were matched by position among names in one order."""


def match_classnames(
    names: Sequence[str], dataset_names: Sequence[str], synonyms: Mapping[str, Sequence[str]], source: str
) -> ClassnameMatch:
    """Match the names of a prompt set with those of a dataset, never by position alone.

    Names match if they are equal up to case, spaces and punctuation, or by a synonym. Classes without a match keep
    their position if all matches do and are the majority. If the dataset only numbers its classes, the position is the
    number.

    Args:
        names: Names of the prompt set.
        dataset_names: Names of the dataset, in the order of its labels.
        synonyms: Name of the prompt set → synonyms.
        source: Name of the prompt set, for messages.

    Raises:
        DataError: The numbers of classes differ, or a class has no counterpart.
    """
    if len(names) != len(dataset_names):
        raise DataError(
            f"the prompt set {source!r} has {len(names)} classes, but the dataset has {len(dataset_names)}. Use a "
            "prompt set for this dataset."
        )
    positions = tuple(range(len(names)))
    is_numbered = all(name == str(index) for index, name in enumerate(dataset_names))
    if is_numbered and not any(name.strip().isdecimal() for name in names):
        return ClassnameMatch(positions)
    matches = _pair_names(names, dataset_names, synonyms)
    unmatched = [index for index in positions if index not in matches]
    if not unmatched:
        return ClassnameMatch(tuple(matches[index] for index in positions))
    if all(index == match for index, match in matches.items()) and 2 * len(matches) > len(names):
        return ClassnameMatch(positions, tuple((dataset_names[index], names[index]) for index in unmatched))
    unused = [index for index in positions if index not in set(matches.values())]
    raise DataError(
        f"the prompt set {source!r} has no class for {len(unmatched)} of {len(dataset_names)} classes of the dataset, "
        f"such as {dataset_names[unmatched[0]]!r}, but others, such as {names[unused[0]]!r}. Their order may differ. "
        "Use the names of the dataset, or a .json file with sentences for each class name of the dataset."
    )


def match_keys(names: Iterable[str], dataset_names: Sequence[str]) -> dict[str, str]:
    """Return name → class name of the dataset for names that equal one class name up to case and punctuation."""
    names, distinct = list(names), list(dict.fromkeys(dataset_names))
    return {names[index]: distinct[match] for match, index in _pair_names(names, distinct, {}).items()}


def find_name(names: Iterable[str], known: Iterable[str]) -> str | None:
    """Return the first known name that equals one of `names` up to case and punctuation; earlier `names` win.

    >>> find_name(["flowers", "Flowers102"], ["Food101", "flowers_102"])
    'flowers_102'
    """
    known = list(known)
    by_letters = {_letters(name): name for name in reversed(known)}
    names = list(names)
    exact = next((name for name in names if name in known), None)
    return exact or next((by_letters[_letters(name)] for name in names if _letters(name) in by_letters), None)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _pair_names(
    names: Sequence[str], dataset_names: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> dict[int, int]:
    """Return index in the dataset → index in the prompt set, for names with one possible counterpart."""
    matches: dict[int, int] = {}
    for key in _KEYS:
        _add_matches(matches, [[key(name)] for name in names], [key(name) for name in dataset_names], names)
    words = _KEYS[-1]
    alternatives = [[words(synonym) for synonym in synonyms.get(name, ())] for name in names]
    _add_matches(matches, alternatives, [words(name) for name in dataset_names], names)
    return matches


def _add_matches(
    matches: dict[int, int], keys: Sequence[Sequence[str]], dataset_keys: Sequence[str], names: Sequence[str]
) -> None:
    """Pair unmatched classes with equal keys. Several are paired in order if their names are equal, too."""
    used = set(matches.values())
    candidates: dict[str, list[int]] = defaultdict(list)
    wanted: dict[str, list[int]] = defaultdict(list)
    for index, class_keys in enumerate(keys):
        for key in class_keys if index not in used else ():
            candidates[key].append(index)
    for index, key in enumerate(dataset_keys):
        if index not in matches:
            wanted[key].append(index)
    for key, indices in wanted.items():
        group = candidates.get(key, [])
        if len(group) == len(indices) and len({names[index] for index in group}) == 1:
            matches.update(zip(indices, group, strict=True))
