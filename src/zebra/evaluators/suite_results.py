"""The mean of a suite, with missing datasets and published scores."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zebra.atomic_io import atomic_write
from zebra.data.benchmarks.catalog import find_differences, load_catalog
from zebra.data.benchmarks.languages import ALL_LANGUAGES
from zebra.data.benchmarks.suites import PublishedModel, Suite, SuiteMember
from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark, MultilingualRetrievalBenchmark
from zebra.errors import ZebraError
from zebra.evaluators.linear_probe import HALVES_NOTE
from zebra.evaluators.results import TaskResult
from zebra.evaluators.results_io import ResultRecord
from zebra.evaluators.suite_datasets import RequestedDataset, RequestedDatasets
from zebra.protocols.suite_mean import suite_mean
from zebra.values import Score

SUITES_FILENAME = "suites.json"


@dataclass(frozen=True, slots=True)
class PublishedMean:
    """The number of a known model, on the members that were evaluated."""

    published: PublishedModel
    value: float | None
    """A fraction; None if the model's score of an evaluated member is not known."""
    source: str
    """Where the numbers were read, and how many are not verified."""


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Scores of a model on the members of a suite."""

    suite: Suite
    scores: Mapping[str, Score]
    """Member → score, in the order of the suite."""
    missing: Mapping[str, str]
    """Member → why it has no score."""
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every member has a score, so that the number compares with published ones."""
        return not self.missing

    @property
    def mean(self) -> Score | None:
        """The mean over the members with a score; None without any, or if the suite's authors define no number."""
        return self._mean_of(self.suite.members) if self.suite.average != "none" else None

    def group_means(self) -> dict[str, Score]:
        """Return group → mean over its members, for groups in which each member has a score."""
        groups = dict.fromkeys(member.group for member in self.suite.members if member.group)
        members = {group: [member for member in self.suite.members if member.group == group] for group in groups}
        return {
            group: mean
            for group in groups
            if all(member.name in self.scores for member in members[group])
            and (mean := self._mean_of(members[group])) is not None
        }

    def published_means(self) -> list[PublishedMean]:
        """Return the numbers of known models over the same members, best first; those without a number last."""
        means = [
            PublishedMean(published, self._published_mean(published), self.suite.describe_source(published))
            for published in self.suite.published
        ]
        return sorted(means, key=lambda mean: -1.0 if mean.value is None else mean.value, reverse=True)

    def _mean_of(self, members: Sequence[SuiteMember]) -> Score | None:
        members = [member for member in members if member.name in self.scores]
        if not members:
            return None
        groups = [member.group for member in members] if self.suite.average == "groups" else ()
        scores = [self.scores[member.name] for member in members]
        return suite_mean(scores, groups, [member.images for member in members])

    def _published_mean(self, published: PublishedModel) -> float | None:
        if self.suite.average == "none" or not self.scores:
            return None
        if self.is_complete and published.mean is not None:
            return published.mean / 100
        scores = self.suite.published_scores(published)
        if not self.scores.keys() <= scores.keys():
            return None
        values = {name: Score(scores[name] / 100, 0.0, 1.0, 0) for name in self.scores}
        mean = SuiteResult(self.suite, values, self.missing).mean
        return None if mean is None else mean.value


def collect_suite_results(
    requested: RequestedDatasets,
    results: Sequence[TaskResult],
    errors: Mapping[str, ZebraError],
    earlier: Sequence[ResultRecord],
) -> list[SuiteResult]:
    """Return the result of each suite.

    Args:
        requested: The datasets and suites of the evaluation.
        results: The results on all datasets.
        errors: Name of a dataset → why it could not be evaluated.
        earlier: Results of earlier evaluations in the same directory, oldest first.
    """
    results_by_task = {(result.dataset, result.task): result for result in results}
    reasons = {
        dataset.rpartition("/")[2]: str(reason) for dataset, reason in {**requested.missing, **requested.errors}.items()
    } | {dataset: str(error) for dataset, error in errors.items()}
    return [
        _collect_suite(suite, results_by_task, reasons, _describe_data(suite, requested, earlier))
        for suite in requested.suites
    ]


def write_suites(out_dir: Path, results: Sequence[SuiteResult]) -> None:
    """Write `suites.json`: suite → number, scores, missing members and published numbers; fractions throughout."""
    document = {result.suite.name: _to_document(result) for result in results}
    with atomic_write(out_dir / SUITES_FILENAME) as partial:
        partial.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _collect_suite(
    suite: Suite, results: Mapping[tuple[str, str], TaskResult], reasons: Mapping[str, str], notes: Sequence[str]
) -> SuiteResult:
    found: dict[str, Score] = {}
    missing: dict[str, str] = {}
    halved: list[str] = []
    for member in suite.members:
        dataset = member.dataset.rpartition("/")[2]
        result = results.get((dataset, member.task))
        if result is not None and member.metric in result.scores:
            found[member.name] = result.scores[member.metric]
            halved += [member.name] if HALVES_NOTE in result.notes else []
        else:
            missing[member.name] = reasons.get(dataset, f"{dataset} has no score {member.metric!r} of {member.task}")
    notes = [*notes, *_describe_shared_images([member for member in suite.members if member.name in found])]
    if halved:
        notes.append(f"trained on half of the dataset without a training split: {', '.join(halved)}")
    return SuiteResult(suite, found, missing, tuple(notes))


def _describe_shared_images(members: Sequence[SuiteMember]) -> list[str]:
    """Return a note on the members whose scores are not independent."""
    sizes = Counter(member.images for member in members if member.images)
    shared = [member.name for member in members if sizes[member.images] > 1]
    if not shared:
        return []
    return [f"not independent, so that the interval adds their uncertainties: {', '.join(shared)} (shared images)"]


def _describe_data(suite: Suite, requested: RequestedDatasets, earlier: Sequence[ResultRecord]) -> list[str]:
    """Return notes on data that changed or differs from the catalog, and on prompts."""
    members = {member.dataset.rpartition("/")[2]: member for member in suite.members}
    datasets = [dataset for dataset in requested.datasets if dataset.benchmark.name in members]
    digests = {record.dataset: record for record in earlier}
    changed = [
        f"{name} since {digests[name].provenance.get('time', 'an earlier evaluation')}"
        for dataset in datasets
        if (name := dataset.benchmark.name) in digests
        and digests[name].dataset_digest != dataset.benchmark.source.digest
    ]
    notes = [f"the data changed: {', '.join(changed)}"] if changed else []
    if different := [dataset.benchmark.name for dataset in datasets if _differs_from_catalog(dataset)]:
        notes.append(f"the copy differs from the catalog, so that scores may not compare: {', '.join(different)}")
    selected = [
        dataset.benchmark.name
        for dataset in datasets
        if isinstance(dataset.benchmark, MultilingualRetrievalBenchmark)
        and dataset.config.languages
        and ALL_LANGUAGES not in dataset.config.languages
    ]
    if selected:
        notes.append(f"means over selected languages only, which do not compare: {', '.join(selected)}")
    other_prompts = [
        f"{dataset.benchmark.name} {num_templates} instead of {members[dataset.benchmark.name].num_templates}"
        for dataset in datasets
        if (num_templates := _count_templates(dataset)) is not None
        and members[dataset.benchmark.name].num_templates not in (0, num_templates)
    ]
    if other_prompts:
        notes.append(f"the number of prompt templates differs from that of the suite: {', '.join(other_prompts)}")
    return notes


def _differs_from_catalog(dataset: RequestedDataset) -> bool:
    entry = load_catalog().get(dataset.benchmark.name)
    return entry is not None and bool(find_differences(dataset.benchmark, entry, dataset.config.split))


def _count_templates(dataset: RequestedDataset) -> int | None:
    """Return the number of the dataset's own templates; None if other prompts are used."""
    benchmark = dataset.benchmark
    if dataset.config.prompts != "dataset" or not isinstance(benchmark, ClassificationBenchmark | MultilabelBenchmark):
        return None
    return len(benchmark.templates) or None


def _to_document(result: SuiteResult) -> dict[str, Any]:
    return {
        "title": result.suite.title,
        "source": result.suite.source,
        "mean": asdict(result.mean) if result.mean is not None and result.is_complete else None,
        "incomplete_mean": asdict(result.mean) if result.mean is not None and not result.is_complete else None,
        "num_members": len(result.suite.members),
        "scores": {name: asdict(score) for name, score in result.scores.items()},
        "groups": {group: asdict(score) for group, score in result.group_means().items()},
        "missing": dict(result.missing),
        "notes": list(result.notes),
        "published": [
            {"model": mean.published.model, "mean": mean.value, "source": mean.source}
            for mean in result.published_means()
        ],
    }
