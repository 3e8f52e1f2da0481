"""Prompt sets as data (CLIP §3.1.4): lists or files in; the sentences of every class, a hash and an ablation out.

What zebra brings is one general set of its own. Those of OpenAI and CLIP_benchmark are read from where the user has
them.
"""

import ast
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from zebra.errors import ConfigError, DataError, ShapeError, suggest_name
from zebra.text.templates import fill_template


@dataclass(frozen=True, slots=True)
class PromptSet:
    """What is said about every class.

    Raises:
        ConfigError: No template, one without a place for the name, an empty or repeated class name, or further names
            and sentences of a class that is not there or that another class has too.
    """

    name: str
    source: str
    """Who wrote it: zebra, openai, clip_benchmark, custom."""
    templates: tuple[str, ...]
    """With `{}` or `{c}` where the name goes. Empty only if every class has sentences of its own."""
    classnames: tuple[str, ...] | None = None
    """C names, the position is the label; None: those of whatever set it is used on."""
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class name → its further names. Every name goes into every template, and all count alike."""
    sentences: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class name → whole sentences, used in place of the templates (Pratt et al. 2023)."""
    duplicate_names: frozenset[str] = frozenset()
    """Names that are meant to stand for several classes: two do in OpenAI's list of ImageNet. Of such classes the
    first is the one that is predicted."""

    def __post_init__(self) -> None:
        if not self.templates and not self.sentences:
            raise ConfigError(
                f"the prompt set {self.name!r} has no templates; give at least one, such as 'a photo of a {{}}.'"
            )
        for template in self.templates:
            fill_template(template, "")
        if self.classnames is not None:
            self._check_classnames(self.classnames)

    @property
    def hash(self) -> str:
        """Sixteen hex digits of what is said; name, source and the way of writing `{}` do not count."""
        content = {
            "templates": [template.replace("{c}", "{}") for template in self.templates],
            "classnames": self.classnames,
            "synonyms": {name: self.synonyms[name] for name in sorted(self.synonyms)},
            "sentences": {name: self.sentences[name] for name in sorted(self.sentences)},
        }
        canonical = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def with_classnames(self, classnames: Sequence[str]) -> "PromptSet":
        """Return this set for a data set's own class names; a set that brings names must bring as many.

        Raises:
            DataError: The set names another number of classes than the data has.
            ConfigError: A name is empty or repeated.
        """
        if self.classnames is None:
            return replace(self, classnames=tuple(classnames))
        if len(self.classnames) != len(classnames):
            raise DataError(
                f"the prompt set {self.name!r} names {len(self.classnames)} classes, the data set has "
                f"{len(classnames)}; take the class names of one of them"
            )
        return self

    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """Return the sentences of every class.

        Raises:
            ConfigError: The set has no class names yet.
        """
        if self.classnames is None:
            raise ConfigError(
                f"the prompt set {self.name!r} names no classes; say which with .on(classnames)"
            )
        return tuple(
            self.sentences.get(name)
            or tuple(
                fill_template(template, word)
                for word in (name, *self.synonyms.get(name, ()))
                for template in self.templates
            )
            for name in self.classnames
        )

    def rungs(self) -> tuple["PromptSet", ...]:
        """Return the ablation of §3.1.4: the bare name, the first template, all; equal rungs once."""
        bare = replace(self, name="bare name", templates=("{}",), synonyms={}, sentences={})
        first = replace(self, name="first template", templates=self.templates[:1], synonyms={}, sentences={})
        rungs = (bare, *([first] if self.templates else []), self)
        return tuple({rung.hash: rung for rung in rungs}.values())

    def _check_classnames(self, classnames: tuple[str, ...]) -> None:
        where = f"the prompt set {self.name!r}"
        if not all(name.strip() for name in classnames) or not classnames:
            raise ConfigError(
                f"{where} has an empty class name or none at all; the position of a name is the label"
            )
        count = Counter(classnames)
        twice = next(
            (name for name in classnames if count[name] > 1 and name not in self.duplicate_names), None
        )
        if twice is not None:
            places = [place for place, name in enumerate(classnames) if name == twice]
            raise ConfigError(
                f"{where} calls the classes {places} all {twice!r}, and only the first could be predicted; rename "
                f"them, or say that it is meant so with repeated=frozenset({{{twice!r}}})"
            )
        for kind in (self.synonyms, self.sentences):
            for name in kind:
                if name not in classnames:
                    raise ConfigError(
                        f"{where} describes the class {name!r}, which is not there.{suggest_name(name, classnames)}"
                    )
        owners = {name: name for name in classnames}
        for name, words in self.synonyms.items():
            for word in words:
                if not word.strip() or owners.setdefault(word, name) != name or word == name:
                    raise ConfigError(
                        f"{where}: {word!r} cannot be a further name of {name!r}: it is empty or already taken"
                    )
        silent = [name for name in classnames if not self.templates and not self.sentences.get(name)]
        if silent:
            raise ConfigError(f"{where} has no sentence for {len(silent)} classes, such as {silent[0]!r}")


def load_general_prompts() -> PromptSet:
    """Return zebra's own forty templates for pictures of anything."""
    text = (resources.files("zebra.protocols") / "general_prompts.yaml").read_text(encoding="utf-8")
    return PromptSet("general", "zebra", tuple(yaml.safe_load(text)))


def read_prompt_dir(path: Path, *, duplicate_names: frozenset[str] = frozenset()) -> PromptSet:
    """Read the class names and templates of a CLIP_benchmark folder."""
    names, templates = (
        tuple(line.rstrip() for line in _read_text(path / file).rstrip().split("\n"))
        for file in ("classnames.txt", "zeroshot_classification_templates.txt")
    )
    return PromptSet(path.resolve().name, "clip_benchmark", templates, names, duplicate_names=duplicate_names)


def read_prompt_json(
    name: str,
    templates: Path,
    classnames: Path | None = None,
    *,
    duplicate_names: frozenset[str] = frozenset(),
) -> PromptSet:
    """Read the prompts of the data set `name` from files that hold those of many, as CLIP_benchmark takes them.

    Args:
        name: The key in both files.
        templates: {data set: [template, …]}, or {data set: {class name: [sentence, …]}}.
        classnames: {data set: [class name, …]}.
        duplicate_names: Names that stand for several classes.
    """
    names = (
        None
        if classnames is None
        else _check_strings(_read_json_entry(classnames, name), f"{classnames}: {name}")
    )
    found = _read_json_entry(templates, name)
    if not isinstance(found, dict):
        return PromptSet(
            name,
            "custom",
            _check_strings(found, f"{templates}: {name}"),
            names,
            duplicate_names=duplicate_names,
        )
    sentences = {key: _check_strings(value, f"{templates}: {name}: {key}") for key, value in found.items()}
    return PromptSet(name, "custom", (), names, sentences=sentences, duplicate_names=duplicate_names)


def read_prompt_markdown(
    path: Path, section: str, *, duplicate_names: frozenset[str] = frozenset()
) -> PromptSet:
    """Read one data set of OpenAI's `data/prompts.md`: a heading, and a block with the lists `classes` and `templates`.

    A class given as a list has its first entry as its name and the others as synonyms.

    Raises:
        DataError: The file has no such heading, or no such lists below it.
    """
    sections = {}
    for part in _read_text(path).split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        sections[heading.strip()] = body
    if section not in sections:
        raise DataError(f"{path} has no section {section!r}.{suggest_name(section, sections)}")
    where = f"{path}, section {section}"
    lists = _parse_assignments(
        sections[section].partition("```")[2].partition("```")[0].partition("\n")[2], where
    )
    if not all(isinstance(lists.get(name), list) for name in ("classes", "templates")):
        raise DataError(f"{where}: expected the lists 'classes' and 'templates' in a ``` block")
    classes = [
        _check_strings(entry if isinstance(entry, list) else [entry], f"{where}, classes")
        for entry in lists["classes"]
    ]
    return PromptSet(
        name=section,
        source="openai",
        templates=_check_strings(lists["templates"], f"{where}, templates"),
        classnames=tuple(words[0] for words in classes),
        synonyms={words[0]: words[1:] for words in classes if len(words) > 1},
        duplicate_names=duplicate_names,
    )


def average_prompt_vectors(
    prompt_PE: NDArray[np.float32], prompts_per_class: Sequence[int]
) -> NDArray[np.float32]:
    """Average the prompts of every class: normalised, averaged, normalised again; [C, E].

    Args:
        prompt_PE: Vectors of all prompts, class after class.
        prompts_per_class: How many prompts each class has, all at least 1.

    Raises:
        ShapeError: The sizes do not add up to P, or one is 0.
        DataError: A vector, or the mean of a class, has no direction.
    """
    if not prompts_per_class or min(prompts_per_class) < 1 or sum(prompts_per_class) != len(prompt_PE):
        raise ShapeError(
            f"{len(prompt_PE)} prompts cannot be {len(prompts_per_class)} classes of {sum(prompts_per_class)} prompts in all"
        )
    starts = np.cumsum([0, *prompts_per_class[:-1]])
    return normalize_rows(np.add.reduceat(normalize_rows(prompt_PE), starts, axis=0))


def normalize_rows(vector_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors at length 1.

    Raises:
        DataError: A vector is all zeros, or holds NaN or infinity.
    """
    length_N1 = np.linalg.norm(vector_NE, axis=1, keepdims=True)
    wrong_N = ~(length_N1[:, 0] > 0) | ~np.isfinite(length_N1[:, 0])
    if wrong_N.any():
        raise DataError(
            f"text vector {int(wrong_N.argmax())} has no direction (all zeros, NaN or infinity); the model diverged"
        )
    return np.asarray(vector_NE / length_N1)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.absolute()} cannot be read: {error}") from error


def _read_json_entry(path: Path, name: str) -> Any:
    try:
        document = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(document, dict) or name not in document:
        known = suggest_name(name, document) if isinstance(document, dict) else ""
        raise DataError(f"{path} has no entry {name!r}.{known}")
    return document[name]


def _parse_assignments(code: str, where: str) -> dict[str, Any]:
    """Return the lists that a block of Python assigns; nothing is run."""
    try:
        return {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(code).body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{where}: cannot be read as lists of texts ({error})") from error


def _check_strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
        raise DataError(f"{where}: expected a list of texts, not {str(value)[:60]!r}")
    return tuple(value)
