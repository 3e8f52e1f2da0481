"""Class names and prompt templates by language, from the user's files."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zebra.errors import DataError
from zebra.protocols.classname_matching import find_name, match_keys
from zebra.protocols.prompts import PromptSet

CLASSNAMES_FILENAME, TEMPLATES_FILENAME = "classnames.txt", "zeroshot_classification_templates.txt"
CLASSNAMES_SUFFIX, TEMPLATES_SUFFIX = "_classnames.json", "_zeroshot_classification_templates.json"
"""Files of CLIP_benchmark, one of each kind per language: {dataset: [name, …]} and {dataset: [template, …]}."""
BABEL_CLASSNAMES, BABEL_TEMPLATES = "babel_imagenet*.json", "*prompts*.json"
"""Files of Babel-ImageNet: {language: [[label, …], [name, …]]} and {language: [template, …]}."""


@dataclass(frozen=True, slots=True)
class LanguagePrompts:
    """The prompts of one language for some or all classes of a dataset."""

    labels: tuple[int, ...]
    """Labels of the dataset that have a name in this language, in ascending order."""
    prompts: PromptSet
    """Templates, and one class name for each of these labels."""


def has_languages(spec: str) -> bool:
    """Return whether `--prompts` names class names or templates by language, not one set of prompts."""
    path = Path(spec).expanduser()
    if path.is_dir():
        return bool(_find_folders(path) or _find_files(path, CLASSNAMES_SUFFIX) or any(path.glob(BABEL_CLASSNAMES)))
    if path.suffix != ".json" or not path.is_file():
        return False
    document = _read_json(path)
    return isinstance(document, dict) and all(
        isinstance(entry, dict) and "classnames" in entry for entry in document.values()
    )


def read_language_prompts(
    spec: str, names: Sequence[str], classnames: Sequence[str], templates: Sequence[str]
) -> dict[str, LanguagePrompts]:
    """Read the prompts of all languages for a dataset.

    The path is one of

    - a folder with a folder per language, which holds `classnames.txt` and perhaps
      `zeroshot_classification_templates.txt`;
    - a folder with CLIP_benchmark's `de_classnames.json` and `de_zeroshot_classification_templates.json`;
    - a folder with Babel-ImageNet's `babel_imagenet.json` and prompts;
    - a JSON file `{language: {"classnames": [name, …], "templates": [template, …]}}`. Instead of a list, `classnames`
      may be `{class name: translation}` for some of the classes.

    A list of names has the order of the labels, because translated names cannot be matched by name.

    Args:
        spec: The path.
        names: Names of the dataset.
        classnames: Class names of the dataset.
        templates: Templates for languages without their own.

    Raises:
        DataError: A file is damaged, has no such dataset, or has another number of classes.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        entries = {
            language: (_label_names(entry["classnames"], classnames, f"{path}: {language}"), entry.get("templates"))
            for language, entry in _read_json(path).items()
        }
    elif folders := _find_folders(path):
        entries = {
            folder.name: (
                _label_names(_read_lines(folder / CLASSNAMES_FILENAME), classnames, str(folder)),
                _read_lines(folder / TEMPLATES_FILENAME) if (folder / TEMPLATES_FILENAME).is_file() else None,
            )
            for folder in folders
        }
    elif files := _find_files(path, CLASSNAMES_SUFFIX):
        entries = _read_clip_benchmark(path, files, names, classnames)
    else:
        entries = _read_babel(path, len(classnames))
    result = {}
    for language, (name_by_label, own_templates) in entries.items():
        used = _check_templates(own_templates, f"{path}: {language}") if own_templates else tuple(templates)
        labels = tuple(sorted(name_by_label))
        if len(labels) < 2:
            raise DataError(f"{path}: {language} has names for {len(labels)} classes. Classification needs two")
        prompts = PromptSet(names[0], "custom", used, tuple(name_by_label[label] for label in labels))
        result[language] = LanguagePrompts(labels, prompts)
    if not result:
        raise DataError(f"{path} has no class names in any language for {names[0]}")
    return dict(sorted(result.items()))


def _read_clip_benchmark(
    folder: Path, files: Mapping[str, Path], names: Sequence[str], classnames: Sequence[str]
) -> dict[str, tuple[dict[int, str], Any]]:
    """Return the languages whose file has the dataset."""
    entries = {}
    for language, path in files.items():
        document = _read_json(path)
        if (key := find_name(tuple(names), document)) is None:
            continue
        templates_path = folder / f"{language}{TEMPLATES_SUFFIX}"
        templates = _read_json(templates_path) if templates_path.is_file() else {}
        template_key = find_name(tuple(names), templates)
        entries[language] = (
            _label_names(document[key], classnames, str(path)),
            templates[template_key] if template_key is not None else None,
        )
    return entries


def _read_babel(folder: Path, num_classes: int) -> dict[str, tuple[dict[int, str], Any]]:
    path = min(folder.glob(BABEL_CLASSNAMES))
    template_files = sorted(folder.glob(BABEL_TEMPLATES))
    templates = _read_json(template_files[0]) if template_files else {}
    entries = {}
    for language, entry in _read_json(path).items():
        try:
            labels, names = entry
            name_by_label = dict(zip(labels, names, strict=True))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {language}: expected labels and names of the same number") from error
        if not all(isinstance(label, int) and 0 <= label < num_classes for label in name_by_label):
            raise DataError(f"{path}: {language} has labels outside the {num_classes} classes of the dataset")
        entries[language.lower()] = (name_by_label, templates.get(language))
    return entries


def _label_names(value: Any, classnames: Sequence[str], where: str) -> dict[int, str]:
    """Return label → name from a list in the order of the labels, or from {class name: translation}."""
    if isinstance(value, dict):
        matches = match_keys(value, classnames)
        if unknown := [name for name in value if name not in matches and name not in classnames]:
            raise DataError(f"{where}: there is no class {unknown[0]!r}. Use the class names of the dataset")
        by_name = {matches.get(name, name): translation for name, translation in value.items()}
        return {label: by_name[name] for label, name in enumerate(classnames) if name in by_name}
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{where}: expected a list of class names, or translations by class name")
    if len(value) != len(classnames):
        raise DataError(
            f"{where} has {len(value)} class names, but the dataset has {len(classnames)} classes. For some of the "
            'classes, write a JSON file {language: {"classnames": {class name: translation}}}'
        )
    return dict(enumerate(value))


def _check_templates(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(template, str) for template in value):
        raise DataError(f"{where}: expected a list of templates")
    return tuple(value)


def _find_folders(path: Path) -> list[Path]:
    return sorted(file.parent for file in path.glob(f"*/{CLASSNAMES_FILENAME}"))


def _find_files(path: Path, suffix: str) -> dict[str, Path]:
    """Return language → file."""
    files = sorted(path.glob(f"*{suffix}"))
    return {
        file.name.removesuffix(suffix): file
        for file in files
        if re.fullmatch("[A-Za-z_-]+", file.name.removesuffix(suffix))
    }


def _read_lines(path: Path) -> list[str]:
    try:
        return [line.rstrip() for line in path.read_text(encoding="utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}. Download the file again") from error
