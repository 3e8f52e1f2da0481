"""Suites: evaluation datasets with one number, from the files in `suites/`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Literal

import yaml

from zebra.config.structure import structure
from zebra.data.benchmarks.catalog import load_catalog
from zebra.data.benchmarks.entry import PublishedScore
from zebra.errors import ConfigError, suggest_name

SUITE_PREFIX = "suite:"
LIMITATIONS = "limitations"
ALL_SUITES = "all"
"""Name of all suites that need no training split."""
TRAINED_TASKS = ("linear-probe", "few-shot")
"""Tasks that train on examples."""
PRIMARY_SCORES = {"accuracy": "top1"}
"""Primary metric of an entry → name of the score, where it differs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteMember:
    """A score of a suite: one metric of one task on one dataset."""

    dataset: str
    """A name of the catalog, or of a built-in dataset (menagerie/counting)."""
    metric: str
    """The metric's name among the scores of the task, such as top1, mean_per_class or image_to_text_recall@1."""
    task: str = "zero-shot"
    """The task of the result, such as zero-shot, retrieval or few-shot-16."""
    split: str = "test"
    label: str = ""
    """Name of the member, if the dataset has several; empty for the dataset's name without a prefix."""
    group: str = ""
    """Part of the suite whose mean is shown by itself, such as Retrieval; empty for none."""
    images: str = ""
    """Name of an image collection: the scores of members with the same one are not independent."""
    num_templates: int = 0
    """Number of prompt templates of the suite's authors; 0 if unknown or not applicable."""

    @property
    def name(self) -> str:
        """The name of the member, unique in the suite."""
        return self.label or self.dataset.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedModel:
    """Published scores of a known model, in percent."""

    model: str
    source: str
    """Title and table, or address, where the numbers were read."""
    mean: float | None = None
    """The suite's number as the source states it; None if it states none."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Member → score; those that the catalog has for this model, task and metric need not be repeated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """Datasets with their metrics, and the rule of the one number."""

    name: str
    title: str
    source: str
    """Who defined the suite, and where."""
    average: Literal["members", "groups", "none"] = "members"
    """The number: the mean of all members, the mean of the groups' means, or none if the authors define none."""
    members: tuple[SuiteMember, ...]
    published: tuple[PublishedModel, ...] = ()
    notes: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether a member trains on examples, so that it needs a training split."""
        return any(member.task.startswith(TRAINED_TASKS) for member in self.members)

    def published_scores(self, published: PublishedModel) -> dict[str, float]:
        """Return member → score of a known model in percent, in the order of the members."""
        from_catalog = {name: score.value for name, score in self._find_catalog_scores(published).items()}
        scores = {**from_catalog, **published.scores}
        return {member.name: scores[member.name] for member in self.members if member.name in scores}

    def describe_source(self, published: PublishedModel) -> str:
        """Return the source of a known model's numbers, and how many of them are not verified."""
        scores = self._find_catalog_scores(published)
        num_unverified = sum(score.source == "U" for name, score in scores.items() if name not in published.scores)
        if not num_unverified:
            return published.source
        return f"{published.source}; {num_unverified} of the {len(self.members)} numbers are not verified"

    def _find_catalog_scores(self, published: PublishedModel) -> dict[str, PublishedScore]:
        entries = load_catalog()
        return {
            member.name: score
            for member in self.members
            if (entry := entries.get(member.dataset))
            for score in entry.published_scores
            if (score.model, score.task, score.metric or PRIMARY_SCORES.get(entry.metric, entry.metric))
            == (published.model, member.task, member.metric)
        }


@cache
def load_suites() -> dict[str, Suite]:
    """Return name → suite; a file's name is the name of its suite.

    Raises:
        ConfigError: A file is not a suite, or two members have one name.
    """
    folder = resources.files("zebra.data.benchmarks") / "suites"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return {suite.name: suite for suite in (parse_suite(file.read_text("utf-8"), file.name) for file in files)}


def parse_suite(text: str, filename: str) -> Suite:
    """Return the suite of a YAML file.

    Raises:
        ConfigError: The file is not a suite, two members have one name, or a published score is not of a member.
    """
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict):
        raise ConfigError(f"{filename} must be a mapping with title, source and members")
    suite = structure(Suite, raw | {"name": filename.removesuffix(".yaml")}, filename)
    names = Counter(member.name for member in suite.members)
    if duplicates := [name for name, count in names.items() if count > 1]:
        raise ConfigError(f"{filename} has several members named {duplicates[0]!r}. Give each a label of its own.")
    for published in suite.published:
        if unknown := [name for name in published.scores if name not in names]:
            raise ConfigError(
                f"{filename}: {unknown[0]!r} of {published.model} is no member.{suggest_name(unknown[0], names)}"
            )
    return suite


def is_suite(dataset: str) -> bool:
    """Return whether an argument names suites instead of a dataset; "limitations" is short for its suite."""
    return dataset.startswith(SUITE_PREFIX) or dataset == LIMITATIONS


def find_suites(argument: str) -> tuple[Suite, ...]:
    """Return the suites of an argument such as "suite:paper-27,robustness"; "suite:all" names all without training.

    Raises:
        ConfigError: There is no such suite; the message suggests a similar name.
    """
    suites = load_suites()
    found: dict[str, Suite] = {}
    for name in argument.removeprefix(SUITE_PREFIX).split(","):
        key = name.strip().lower().removeprefix(SUITE_PREFIX)
        if key == ALL_SUITES:
            found |= {suite.name: suite for suite in suites.values() if not suite.is_trained}
        elif key in suites:
            found[key] = suites[key]
        else:
            raise ConfigError(f"there is no suite {name.strip()!r}.{suggest_name(key, (*suites, ALL_SUITES))}")
    return tuple(found.values())
