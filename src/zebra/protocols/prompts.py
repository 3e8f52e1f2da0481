"""Prompt sets: templates, class names and sentences of a dataset (CLIP §3.1.4).

The package contains one general prompt set. Prompt sets of OpenAI and CLIP_benchmark are read from the user's files.
"""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from zebra.errors import ConfigError, DataError, ShapeError, suggest_name
from zebra.protocols.classname_matching import find_name, match_classnames, match_keys
from zebra.text.templates import fill_template


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Templates, class names, synonyms and sentences.

    Raises:
        ConfigError: No template, a template without a placeholder, no class names, or synonyms and sentences of an
            unknown class or with the name of another class.
    """

    name: str
    source: str
    """Origin: zebra, openai, clip_benchmark or custom."""
    templates: tuple[str, ...]
    """Templates with the placeholder `{}` or `{c}`. Empty only if every class has sentences."""
    classnames: tuple[str, ...] | None = None
    """C names, the index is the label; None: the class names of the dataset. Several classes may share a name, such as
    two in OpenAI's list for ImageNet, and one may have an empty name, as in CLIP_benchmark's CLEVR distances."""
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class name → synonyms. Every name is put into every template, and all prompts have equal weight."""
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class name → full sentences that replace the templates (Pratt et al. 2023)."""
    notes: tuple[str, ...] = ()
    """Remarks for readers of a score; not part of the content."""

    def __post_init__(self) -> None:
        if not self.templates and not self.sentences:
            raise ConfigError(
                f"the prompt set {self.name!r} has no templates. Add at least one, such as 'a photo of a {{}}.'"
            )
        for template in self.templates:
            fill_template(template, "")
        if self.classnames is not None:
            self._check_classnames(self.classnames)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the content, without name, source and the form of the placeholder."""
        content = {
            "templates": [template.replace("{c}", "{}") for template in self.templates],
            "classnames": self.classnames,
            "synonyms": {name: self.synonyms[name] for name in sorted(self.synonyms)},
            "sentences": {name: self.sentences[name] for name in sorted(self.sentences)},
        }
        canonical = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def with_classnames(self, classnames: Sequence[str]) -> "PromptSet":
        """Return a copy with one class for each class of a dataset, in the order of its labels.

        A prompt set without class names takes those of the dataset. One with class names keeps its own, in the order
        of the dataset: names are matched by name, not by position (see `match_classnames`).

        Raises:
            DataError: This prompt set has another number of classes than the dataset, or other classes.
            ConfigError: Sentences describe an unknown class.
        """
        if self.classnames is None:
            matches = match_keys(self.sentences, classnames)
            sentences = {matches.get(name, name): texts for name, texts in self.sentences.items()}
            return replace(self, classnames=tuple(classnames), sentences=sentences)
        match = match_classnames(self.classnames, classnames, self.synonyms, self.name)
        notes: tuple[str, ...] = ()
        if match.renamed:
            pairs = ", ".join(f"{old!r} as {new!r}" for old, new in match.renamed[:5])
            more = ", …" if match.renamed[5:] else ""
            notes = (f"the prompts rename {len(match.renamed)} of {len(classnames)} classes: {pairs}{more}",)
        return replace(self, classnames=tuple(self.classnames[index] for index in match.order), notes=notes)

    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Return the prompts of every class.

        Raises:
            ConfigError: The prompt set has no class names.
        """
        if self.classnames is None:
            raise ConfigError(
                f"the prompt set {self.name!r} has no class names. Add them with .with_classnames(classnames)."
            )
        return tuple(
            self.sentences.get(name)
            or tuple(
                fill_template(template, class_or_synonym)
                for class_or_synonym in (name, *self.synonyms.get(name, ()))
                for template in self.templates
            )
            for name in self.classnames
        )

    def _check_classnames(self, classnames: tuple[str, ...]) -> None:
        source = f"the prompt set {self.name!r}"
        if not classnames:
            raise ConfigError(f"{source} has no class names at all")
        for descriptions in (self.synonyms, self.sentences):
            for name in descriptions:
                if name not in classnames:
                    raise ConfigError(f"{source} describes the unknown class {name!r}.{suggest_name(name, classnames)}")
        owners = {name: name for name in classnames}
        for name, synonyms in self.synonyms.items():
            for synonym in synonyms:
                if not synonym.strip() or owners.setdefault(synonym, name) != name or synonym == name:
                    raise ConfigError(
                        f"{source}: {synonym!r} cannot be a synonym of {name!r}, because it is empty or already in use"
                    )
        without_prompt = [name for name in classnames if not self.templates and not self.sentences.get(name)]
        if without_prompt:
            raise ConfigError(
                f"{source} has no prompt for {len(without_prompt)} classes, such as {without_prompt[0]!r}"
            )


def load_general_prompts() -> PromptSet:
    """Return the 40 general templates of this package, for any type of image."""
    text = (resources.files("zebra.protocols") / "general_prompts.yaml").read_text(encoding="utf-8")
    return PromptSet("general", "zebra", tuple(yaml.safe_load(text)))


def read_prompt_dir(path: Path) -> PromptSet:
    """Read the class names and templates of a CLIP_benchmark folder."""
    names, templates = (
        tuple(line.rstrip() for line in _read_text(path / filename).rstrip().split("\n"))
        for filename in ("classnames.txt", "zeroshot_classification_templates.txt")
    )
    return PromptSet(path.resolve().name, "clip_benchmark", templates, names)


def read_prompt_json(
    name: str, templates: Path, classnames: Path | None = None, *, aliases: Sequence[str] = ()
) -> PromptSet:
    """Read the prompts of the dataset `name` from JSON files for several datasets, as in CLIP_benchmark.

    Args:
        name: The key in both files; case and punctuation do not matter.
        templates: {dataset: [template, …]}, or {dataset: {class name: [sentence, …]}}.
        classnames: {dataset: [class name, …]}.
        aliases: Other names of the dataset, tried in this order.
    """
    names = (
        None
        if classnames is None
        else _check_strings(_read_json_entry(classnames, name, aliases), f"{classnames}: {name}")
    )
    entry = _read_json_entry(templates, name, aliases)
    if not isinstance(entry, dict):
        return PromptSet(name, "custom", _check_strings(entry, f"{templates}: {name}"), names)
    sentences = {key: _check_strings(value, f"{templates}: {name}: {key}") for key, value in entry.items()}
    return PromptSet(name, "custom", (), names, sentences=sentences)


def read_prompt_markdown(path: Path, section: str, *, aliases: Sequence[str] = ()) -> PromptSet:
    """Read the prompts of one dataset from OpenAI's `data/prompts.md`.

    Below the heading `section`, the file has a code block with the lists `classes` and `templates`. If a class is a
    list, the first entry is its name and the others are synonyms.

    Args:
        path: The file.
        section: The heading; case and punctuation do not matter.
        aliases: Other names of the dataset, tried in this order.

    Raises:
        DataError: The file has no such heading, or no such lists below it, or classes with one name and different
            synonyms.
    """
    sections: dict[str, str] = {}
    for part in f"\n{_read_text(path)}".split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        sections[title.strip()] = body
    heading = find_name((section, *aliases), sections)
    if heading is None:
        raise DataError(f"{path} has no section {section!r}.{suggest_name(section, sections)}")
    where = f"{path}, section {heading}"
    lists = _parse_assignments(sections[heading].partition("```")[2].partition("```")[0].partition("\n")[2], where)
    if not all(isinstance(lists.get(name), list) for name in ("classes", "templates")):
        raise DataError(f"{where}: expected the lists 'classes' and 'templates' in a ``` block")
    classes = [
        _check_strings(entry if isinstance(entry, list) else [entry], f"{where}, classes") for entry in lists["classes"]
    ]
    synonyms: dict[str, tuple[str, ...]] = {}
    for name, *others in classes:
        if synonyms.setdefault(name, tuple(others)) != tuple(others):
            raise DataError(f"{where}: two classes have the name {name!r} with different synonyms. Rename one of them.")
    return PromptSet(
        name=heading,
        source="openai",
        templates=_check_strings(lists["templates"], f"{where}, templates"),
        classnames=tuple(names[0] for names in classes),
        synonyms={name: others for name, others in synonyms.items() if others},
    )


def average_prompt_vectors(prompt_PE: NDArray[np.float32], prompts_per_class: Sequence[int]) -> NDArray[np.float32]:
    """Normalize the prompt vectors, average them per class and normalize the means; return [C, E].

    Args:
        prompt_PE: Vectors of all prompts, ordered by class.
        prompts_per_class: Number of prompts of each class, at least 1.

    Raises:
        ShapeError: The numbers do not add up to P, or one is 0.
        DataError: A vector, or the mean of a class, cannot be normalized.
    """
    if not prompts_per_class or min(prompts_per_class) < 1 or sum(prompts_per_class) != len(prompt_PE):
        raise ShapeError(
            f"got {len(prompt_PE)} prompt vectors for {len(prompts_per_class)} classes with {sum(prompts_per_class)} "
            "prompts"
        )
    starts = np.cumsum([0, *prompts_per_class[:-1]])
    return normalize_rows(np.add.reduceat(normalize_rows(prompt_PE), starts, axis=0))


def normalize_rows(vector_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each vector to norm 1.

    Raises:
        DataError: A vector is all zeros, or contains NaN or infinity.
    """
    norm_N1 = np.linalg.norm(vector_NE, axis=1, keepdims=True)
    is_invalid_N = ~(norm_N1[:, 0] > 0) | ~np.isfinite(norm_N1[:, 0])
    if is_invalid_N.any():
        raise DataError(
            f"cannot normalize vector {int(is_invalid_N.argmax())}: it is all zeros, NaN or infinite. The model has "
            "diverged."
        )
    return np.asarray(vector_NE / norm_N1)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path.absolute()}: {error}") from error


def _read_json_entry(path: Path, name: str, aliases: Sequence[str]) -> Any:
    try:
        document = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: invalid JSON ({error.msg})") from error
    key = find_name((name, *aliases), document) if isinstance(document, dict) else None
    if key is None:
        hint = suggest_name(name, document) if isinstance(document, dict) else ""
        raise DataError(f"{path} has no entry {name!r}.{hint}")
    return document[key]


def _parse_assignments(code: str, where: str) -> dict[str, Any]:
    """Return the lists that a block of Python code assigns, without running it."""
    try:
        return {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(code).body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{where}: cannot parse lists of strings ({error})") from error


def _check_strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
        raise DataError(f"{where}: expected a list of strings; got {str(value)[:60]!r}")
    return tuple(value)
