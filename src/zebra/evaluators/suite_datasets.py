"""Datasets of an evaluation: those that are named, and the members of suites."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, get_args

from zebra.config.evaluate import EvaluateConfig, Task
from zebra.data.benchmarks.catalog import find_catalog_entry, is_available
from zebra.data.benchmarks.hub_datasets import find_cached_dataset
from zebra.data.benchmarks.suites import SUITE_PREFIX, Suite, find_suites, is_suite
from zebra.data.benchmarks.tasks import AnyBenchmark
from zebra.data.hub import is_unreachable
from zebra.errors import ConfigError, DataError, DownloadError, ZebraError
from zebra.evaluators.datasets import list_builtin_datasets, load_dataset


@dataclass(frozen=True, slots=True)
class RequestedDataset:
    """A dataset to evaluate."""

    argument: str
    """What `load_dataset` opened."""
    benchmark: AnyBenchmark
    config: EvaluateConfig
    """With the split and the tasks of this dataset."""


@dataclass(frozen=True, slots=True)
class RequestedDatasets:
    """The datasets of an evaluation, each once."""

    datasets: tuple[RequestedDataset, ...]
    suites: tuple[Suite, ...]
    missing: Mapping[str, str]
    """Dataset of a suite → why it is not available."""
    errors: Mapping[str, ZebraError]
    """Dataset of a suite → why it could not be opened, although it is there."""


class DatasetLocation(NamedTuple):
    """Where a dataset of a suite is."""

    argument: str
    """The argument of `load_dataset`."""
    is_local: bool
    """Whether there is a copy on this machine, complete or not."""


class _Member(NamedTuple):
    """A dataset of one or several suites, with the tasks of all."""

    dataset: str
    split: str
    tasks: tuple[Task, ...]


def load_requested_datasets(config: EvaluateConfig) -> RequestedDatasets:
    """Open the datasets of `config.datasets`, and those of its suites that are available, each once.

    A dataset of several suites, or of a suite and named by itself, is evaluated once, by the tasks of all.

    Raises:
        DataError: A dataset that is named by itself cannot be opened, or no dataset of the suites is available.
        DownloadError: A dataset that is named by itself is neither on the hub nor cached.
        ConfigError: There is no such suite, two datasets have one name, or two suites take different splits of one.
    """
    suites = find_requested_suites(config.datasets)
    if suites and config.data_root is not None and not Path(config.data_root).expanduser().is_dir():
        raise DataError(
            f"--data-root {config.data_root} is not a directory. Name the directory with the datasets of the suite, "
            "or leave the flag out."
        )
    datasets = [
        RequestedDataset(argument, load_dataset(argument, config.split, config.data_root), config)
        for argument in config.datasets
        if not is_suite(argument)
    ]
    missing: dict[str, str] = {}
    errors: dict[str, ZebraError] = {}
    is_hub_reachable = True
    for dataset, split, tasks in _merge_members(suites, config.tasks):
        location = locate_dataset(dataset, split, config.data_root)
        if location.argument.startswith("hf:") and not location.is_local and not is_hub_reachable:
            missing[dataset] = f"{location.argument} is not in the hub cache, and the hub cannot be reached"
            continue
        try:
            benchmark = load_dataset(location.argument, split, config.data_root)
        except (DataError, DownloadError) as error:
            is_hub_reachable = is_hub_reachable and not is_unreachable(error)
            if location.is_local:
                errors[dataset] = error
            else:
                missing[dataset] = str(error)
        else:
            settings = replace(config, split=split, tasks=tasks)
            datasets.append(RequestedDataset(location.argument, benchmark, settings))
    if suites and not datasets and not errors:
        names = ", ".join(f"{SUITE_PREFIX}{suite.name}" for suite in suites)
        reasons = "\n".join(f"  {reason}" for reason in missing.values())
        raise DataError(f"none of the {len(missing)} datasets of {names} is available:\n{reasons}")
    return RequestedDatasets(_merge_equal(datasets), suites, missing, errors)


def find_requested_suites(arguments: Sequence[str]) -> tuple[Suite, ...]:
    """Return the suites among the arguments of `zebra evaluate`, each once.

    Raises:
        ConfigError: There is no such suite.
    """
    suites = [suite for argument in arguments if is_suite(argument) for suite in find_suites(argument)]
    return tuple({suite.name: suite for suite in suites}.values())


def locate_dataset(dataset: str, split: str, data_root: str | None) -> DatasetLocation:
    """Find a dataset of a suite: built in, in `data_root`, in the hub's cache, or on the hub."""
    if dataset in list_builtin_datasets():
        return DatasetLocation(dataset, is_local=True)
    entry = find_catalog_entry(dataset)
    if data_root is not None and is_available(entry, Path(data_root).expanduser()):
        return DatasetLocation(entry.name, is_local=True)
    if not entry.hub_name:
        return DatasetLocation(entry.name, is_local=False)
    name = f"hf:{entry.hub_repo}"
    cached_name = find_cached_dataset(name, split)
    return DatasetLocation(cached_name or name, is_local=cached_name is not None)


def _merge_members(suites: Sequence[Suite], tasks: tuple[Task, ...]) -> list[_Member]:
    """Return the datasets of all suites, each once, with the given tasks and those of its members."""
    merged: dict[str, _Member] = {}
    for suite in suites:
        for member in suite.members:
            earlier = merged.get(member.dataset, _Member(member.dataset, member.split, tasks))
            if earlier.split != member.split:
                raise ConfigError(
                    f"suite:{suite.name} takes the split {member.split} of {member.dataset}, and another suite takes "
                    f"{earlier.split}. Evaluate the suites one by one."
                )
            task = find_task(member.task)
            merged[member.dataset] = earlier._replace(tasks=tuple(dict.fromkeys((*earlier.tasks, task))))
    return list(merged.values())


def find_task(name: str) -> Task:
    """Return the task of `zebra evaluate` with results of this name.

    >>> find_task("few-shot-16"), find_task("zero-shot")
    ('few-shot', 'zero-shot')
    """
    return max((task for task in get_args(Task) if f"{name}-".startswith(f"{task}-")), key=len)


def _merge_equal(datasets: Sequence[RequestedDataset]) -> tuple[RequestedDataset, ...]:
    """Merge requests for the same images, with the tasks of all.

    Raises:
        ConfigError: Different datasets have one name.
    """
    merged: dict[str, RequestedDataset] = {}
    for dataset in datasets:
        name = dataset.benchmark.name
        earlier = merged.setdefault(name, dataset)
        if earlier is dataset:
            continue
        if earlier.benchmark.source.digest != dataset.benchmark.source.digest:
            raise ConfigError(
                f"two datasets have the name {name!r}, which identifies their scores: {earlier.argument} and "
                f"{dataset.argument}. Rename a folder, or evaluate them one by one."
            )
        tasks = tuple(dict.fromkeys((*earlier.config.tasks, *dataset.config.tasks)))
        merged[name] = replace(dataset, config=replace(dataset.config, tasks=tasks))
    return tuple(merged.values())
