"""Recognize splits (train, validation, test) in the names of files and folders."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from zebra.data.shard_patterns import make_brace_pattern
from zebra.errors import DataError, SeveralSplits, list_names

_CANONICAL_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
SPLIT_NAMES = tuple(_CANONICAL_NAMES)
"""Words that name a split, in lower case."""
_COUNTED_NAME = re.compile(r"(?P<split>.+)-\d{5}-of-(?P<total>\d{5})(?:-[0-9a-f]{8,64})?")
"""The stem of a hub file: split, number and count, and in older repositories a digest."""
_WORD = re.compile(r"([^\W\d_]+)\d*")
MAX_NAMES_SHOWN = 8


def find_split(name: str) -> str | None:
    """Return the canonical split that a name contains as a word, or None.

    >>> find_split("cc3m-valid-0000.tar"), find_split("train2017"), find_split("trainers.tar")
    ('validation', 'train', None)
    """
    words = (word.lower() for word in _WORD.findall(name))
    return next((_CANONICAL_NAMES[word] for word in words if word in _CANONICAL_NAMES), None)


def is_split_name(name: str) -> bool:
    """Return whether a name is a split and nothing else but digits: "train", "Val", "test2017"."""
    match = _WORD.fullmatch(name)
    return match is not None and match[1].lower() in SPLIT_NAMES


def match_split(split: str, names: Sequence[str]) -> str | None:
    """Return the name of a split among others: the same one, otherwise the only one with the same meaning.

    >>> match_split("validation", ["train", "val"])
    'val'
    """
    same_meaning = [name for name in names if find_split(split) and find_split(name) == find_split(split)]
    return split if split in names else same_meaning[0] if len(same_meaning) == 1 else None


def find_folder_splits(names: Iterable[str]) -> dict[str, str]:
    """Return split → folder for sibling folders that are splits; {} if they are not.

    Folders are splits if at least two different ones consist of a split name and digits, or if all contain one. A
    single folder called train among others is a class.

    >>> find_folder_splits(["train2017", "val2017", "annotations"])
    {'train': 'train2017', 'validation': 'val2017'}
    >>> find_folder_splits(["train", "airplane", "test_tube"])
    {}
    """
    all_names = sorted(names)
    exact_names = [name for name in all_names if is_split_name(name)]
    for candidates in (exact_names, all_names):
        splits = [find_split(name) for name in candidates]
        if None not in splits and len(set(splits)) > 1:
            return {split: name for split, name in zip(splits, candidates, strict=True) if split}
    return {}


def parse_split(value: Any) -> str:
    """Return the split that a cell of the column `split` names; "" without a value."""
    return "" if value is None else str(value).strip()


def select_split_files(files: Sequence[str], folder: str, split: str | None, *, suggest_pattern: bool) -> list[str]:
    """Return the names of the files of one split, in the given order.

    Args:
        files: Names of all data files of a folder.
        folder: The folder, for error messages.
        split: The split to select; None if the files must all belong to one split.
        suggest_pattern: Suggest a pattern such as train-{0000..0012}.tar in the error message.

    Returns:
        All files if their names have no splits and `split` is None; [] if there is no such split.

    Raises:
        SeveralSplits: There are several splits, and none is selected.
        DataError: Files are missing according to their names.
    """
    groups = _group_by_split(files)
    if split is None:
        if len(groups.keys() - {None}) > 1:
            raise several_splits_error(
                folder,
                sorted(name for name in groups if name),
                [make_brace_pattern(group) for _, group in sorted(groups.items(), key=str) if group]
                if suggest_pattern
                else (),
            )
        selected = list(files)
    else:
        name = match_split(split, [name for name in groups if name])
        selected = groups[name] if name else []
    _require_all_files(selected, folder)
    return selected


def several_splits_error(dataset: str, splits: Sequence[str], arguments: Sequence[str | None] = ()) -> SeveralSplits:
    """Return the error for a dataset with several splits.

    Args:
        dataset: Path of the dataset.
        splits: Names of its splits.
        arguments: Paths or patterns below the dataset that select one split each; by default the names of the splits.
    """
    shown = list_names(splits[:MAX_NAMES_SHOWN]) + (", …" if splits[MAX_NAMES_SHOWN:] else "")
    argument = next((argument for argument in arguments if argument), list_names(splits[:1]))
    return SeveralSplits(f"{dataset} has {len(splits)} splits: {shown}. Give one of them, such as {dataset}/{argument}")


def _group_by_split(files: Sequence[str]) -> Mapping[str | None, list[str]]:
    groups: dict[str | None, list[str]] = {}
    for name in files:
        match = _COUNTED_NAME.fullmatch(PurePath(name).stem)
        groups.setdefault(match["split"] if match else find_split(PurePath(name).stem), []).append(name)
    return groups


def _require_all_files(files: Sequence[str], folder: str) -> None:
    """Raise DataError if the names of the files count more or fewer files."""
    totals: dict[str, list[int]] = {}
    for name in files:
        if match := _COUNTED_NAME.fullmatch(PurePath(name).stem):
            totals.setdefault(match["split"], []).append(int(match["total"]))
    for split, counts in totals.items():
        if set(counts) != {len(counts)}:
            raise DataError(
                f"{folder} has {len(counts)} files of {split}, but their names count "
                f"{' and '.join(map(str, sorted(set(counts))))}. Download the missing files, or move the files that do "
                "not belong to it"
            )
