"""`zebra doctor DATASET`: compare a dataset on disk with the catalog."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

from zebra.config.doctor import DoctorConfig
from zebra.data.bad_samples import describe_bad_samples
from zebra.data.benchmarks.catalog import find_catalog_entry
from zebra.data.benchmarks.entry import CatalogEntry
from zebra.data.benchmarks.suites import find_suites, is_suite
from zebra.data.benchmarks.tasks import (
    AnyBenchmark,
    ClassificationBenchmark,
    CompositionalityBenchmark,
    MultilabelBenchmark,
    RetrievalBenchmark,
)
from zebra.errors import DataError, DownloadError, MissingSplit, ZebraError
from zebra.evaluators.datasets import list_builtin_datasets, load_dataset
from zebra.evaluators.image_check import CheckedImages, check_images, describe_pairs, find_copies
from zebra.evaluators.suite_datasets import locate_dataset
from zebra.workflows.finding import Finding

USUAL_SPLITS = ("train", "val", "test")
ImageProgress = Callable[[int, int, str], None]


def find_dataset(config: DoctorConfig) -> str | None:
    """Return the target if it is an evaluation dataset or a suite, else None: it has captions for training.

    Raises:
        DataError: The target is an evaluation dataset that is damaged.
    """
    target = config.target
    if is_suite(target) or target in list_builtin_datasets() or target.startswith("hf:"):
        return target
    if not Path(target).expanduser().exists():
        return target if _find_entry(target) else None
    for split in ("test", "train", "val"):
        try:
            benchmark = load_dataset(target, split)
        except MissingSplit:
            continue
        except DataError:
            return None
        return None if isinstance(benchmark, RetrievalBenchmark) else target
    return None


def _find_entry(name: str) -> CatalogEntry | None:
    try:
        return find_catalog_entry(name)
    except DataError:
        return None


def inspect_suites(argument: str, data_root: str | None) -> Iterator[Finding]:
    """Say of each dataset of a suite whether it is here, missing or damaged; no image is read."""
    for suite in find_suites(argument):
        members = dict.fromkeys((member.dataset, member.split) for member in suite.members)
        num_here = 0
        for dataset, split in members:
            location = locate_dataset(dataset, split, data_root)
            if not location.is_local:
                entry = find_catalog_entry(dataset)
                place = f"{location.argument} on the hub" if location.argument.startswith("hf:") else "no download"
                detail = "; ".join(filter(None, [f"missing: {place}", entry.access and f"terms: {entry.access}"]))
                yield Finding(dataset, detail, is_ok=False)
                continue
            try:
                benchmark = load_dataset(location.argument, split, data_root)
            except (DataError, DownloadError) as error:
                yield Finding(dataset, str(error), is_ok=False)
                continue
            num_here += 1
            yield _compare_size(_find_entry(dataset), benchmark, split, dataset)
        yield Finding(
            f"suite:{suite.name}", f"{num_here} of {len(members)} datasets are here", is_ok=num_here == len(members)
        )


def inspect_dataset(dataset: str, config: DoctorConfig, progress: ImageProgress) -> Iterator[Finding]:
    """Compare each split with the catalog, and check its images.

    Args:
        dataset: As for `load_dataset`.
        config: Where the dataset is, and how many images of each split are checked.
        progress: Called with the number of checked images of a split, their total and the split.

    Raises:
        DataError: No split can be opened, or `config.data_root` is not a directory.
    """
    if config.data_root is not None and not Path(config.data_root).expanduser().is_dir():
        raise DataError(f"--data-root {config.data_root} is not a directory. Name the directory with the datasets")
    splits, errors = _load_splits(dataset, config.data_root)
    name = next(iter(splits.values())).name if splits else dataset
    entry = _find_entry(name)
    if not splits and entry is None:
        message = f"{dataset} has none of the splits {', '.join(USUAL_SPLITS)}. Name another dataset"
        raise next(iter(errors.values()), DataError(message))
    yield from _describe_entry(entry) if entry else [Finding("catalog", f"{name} is not in the catalog")]
    if entry and config.data_root is not None:
        yield from _list_copies(entry, Path(config.data_root).expanduser())
    for split, error in errors.items():
        yield Finding(split, str(error), is_ok=False)
    for size in entry.splits if entry else ():
        if size.name not in splits and size.name not in errors:
            yield Finding(size.name, f"not here; the catalog has {size.size:,} images")
    checked: dict[str, CheckedImages] = {}
    for split, benchmark in splits.items():
        yield _compare_size(entry, benchmark, split, split)
        yield from _check_classes(entry, benchmark)
        num_images = min(len(benchmark.source), config.max_samples or len(benchmark.source))
        checked[split] = check_images(
            benchmark.source, num_images, partial(_show_progress, progress, num_images, split)
        )
        yield from _describe_images(checked[split], num_images, len(benchmark.source), is_own=entry is None)
        yield Finding("digest", benchmark.source.digest[:16])
    for (first, images), (second, others) in combinations(checked.items(), 2):
        copies = find_copies(others, images)
        if copies.exact or copies.near:
            yield Finding(
                f"{second} in {first}",
                f"{len(copies.exact):,} exact copies, {len(copies.near):,} pairs of near ones: "
                f"{describe_pairs((*copies.exact, *copies.near))}",
                is_ok=entry is not None or not copies.exact,
            )


def _show_progress(progress: ImageProgress, total: int, split: str, done: int) -> None:
    progress(done, total, split)


def _load_splits(dataset: str, data_root: str | None) -> tuple[dict[str, AnyBenchmark], dict[str, ZebraError]]:
    """Open all splits that are here; of a dataset on the hub, only the test split, because others are large."""
    entry = _find_entry(dataset)
    names = ("test",) if dataset.startswith("hf:") else (*(size.name for size in entry.splits),) if entry else ()
    splits: dict[str, AnyBenchmark] = {}
    errors: dict[str, ZebraError] = {}
    digests: set[str] = set()
    for split in names or USUAL_SPLITS:
        try:
            benchmark = load_dataset(dataset, split, data_root)
        except MissingSplit:
            continue
        except (DataError, DownloadError) as error:
            errors[split] = error
            continue
        if benchmark.source.digest not in digests:  # a layout without splits opens under each name
            digests.add(benchmark.source.digest)
            splits[split] = benchmark
    return splits, errors


def _describe_entry(entry: CatalogEntry) -> Iterator[Finding]:
    yield Finding("catalog", f"{entry.title}, as {entry.name}; metric {entry.metric}")
    yield Finding("license", entry.license or "unknown: see the dataset's authors")
    if entry.access:
        yield Finding("terms", entry.access)
    if entry.known_errors:
        yield Finding("known errors", entry.known_errors)
    if entry.notes:
        yield Finding("notes", entry.notes)


def _list_copies(entry: CatalogEntry, root: Path) -> Iterator[Finding]:
    copies = [name for name in entry.all_names() if (root / name).exists()]
    folders = dict.fromkeys((root / name).resolve() for name in copies)  # one folder on a disk that ignores case
    if len(folders) > 1:
        yield Finding("copies", f"{root} has several: {', '.join(copies)}. The first that is complete is read")


def _compare_size(entry: CatalogEntry | None, benchmark: AnyBenchmark, split: str, name: str) -> Finding:
    if isinstance(benchmark, CompositionalityBenchmark):
        found, unit = len(benchmark.questions), "questions"
    else:
        found, unit = len(benchmark.source), "images"
    expected = next((size.size for size in entry.splits if size.name == split), None) if entry else None
    if expected is None:
        return Finding(name, f"{found:,} {unit}")
    if expected == found:
        return Finding(name, f"{found:,} {unit}, as in the catalog")
    return Finding(name, f"{found:,} {unit}; the catalog has {expected:,}", is_ok=False)


def _check_classes(entry: CatalogEntry | None, benchmark: AnyBenchmark) -> Iterator[Finding]:
    if not isinstance(benchmark, ClassificationBenchmark | MultilabelBenchmark):
        return
    names = benchmark.classnames
    expected = entry.num_classes if entry else 0
    is_as_expected = expected in (0, len(names))
    yield Finding(
        "classes", f"{len(names)}{'' if is_as_expected else f'; the catalog has {expected}'}", is_ok=is_as_expected
    )
    for note in benchmark.notes:
        if "classes have no image" in note:
            yield Finding("empty classes", note)
    repeated = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if repeated:
        yield Finding("class names", f"{len(repeated)} occur twice, but for case: {', '.join(repeated[:5])}")


def _describe_images(images: CheckedImages, num_checked: int, total: int, *, is_own: bool) -> Iterator[Finding]:
    part = "all" if num_checked == total else f"the first {num_checked:,}"
    if images.bad_samples:
        yield Finding("unreadable", describe_bad_samples(images.bad_samples), is_ok=False)
    else:
        yield Finding("images", f"{part} can be decoded")
    if images.is_uniform_N.any():
        examples = [id for id, is_uniform in zip(images.ids, images.is_uniform_N, strict=True) if is_uniform]
        yield Finding("one color", f"{len(examples):,} images: {', '.join(examples[:3])}", is_ok=not is_own)
    copies = find_copies(images)
    if copies.exact:
        yield Finding("exact copies", f"{len(copies.exact):,} images: {describe_pairs(copies.exact)}")
    if copies.near:
        yield Finding("near copies", f"{len(copies.near):,} pairs: {describe_pairs(copies.near)}")
    if copies.conflicting:
        yield Finding(
            "labels differ",
            f"{len(copies.conflicting):,} exact copies have another label: {describe_pairs(copies.conflicting)}",
            is_ok=not is_own,
        )
