"""Catalog of well-known evaluation datasets, and a reader of local copies.

The files in `entries/` list the datasets: a new one takes an entry there and no code.
"""

from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

from zebra.config.structure import structure
from zebra.data.benchmarks.archive_splits import ArchiveSplit
from zebra.data.benchmarks.archives import ArchiveFormat
from zebra.data.benchmarks.association import is_association_dataset, read_association
from zebra.data.benchmarks.caption_archives import CaptionArchive, CaptionedImages, ImagesWithCaptions
from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES_FILENAME,
    TEMPLATES_FILENAME,
    list_splits,
    read_clip_benchmark,
    read_dataset_type,
    read_lines,
    read_templates,
)
from zebra.data.benchmarks.compositionality import has_questions, read_compositionality
from zebra.data.benchmarks.dci import DciArchive
from zebra.data.benchmarks.entry import CatalogEntry
from zebra.data.benchmarks.gallery_archives import RevisitedArchive
from zebra.data.benchmarks.group_columns import add_groups
from zebra.data.benchmarks.languages import name_language
from zebra.data.benchmarks.tasks import (
    ActionBenchmark,
    AnyBenchmark,
    AssociationBenchmark,
    ClassificationBenchmark,
    CompositionalityBenchmark,
    FrameSetBenchmark,
    InstanceBenchmark,
    LexiconBenchmark,
    MultilabelBenchmark,
    MultilingualRetrievalBenchmark,
    RetrievalBenchmark,
)
from zebra.data.image_source import empty_class_notes
from zebra.errors import DataError, MissingSplit, suggest_name


@cache
def load_catalog() -> dict[str, CatalogEntry]:
    """Return name → entry, file by file in the order of their names; the file's name is the group."""
    folder = resources.files("zebra.data.benchmarks") / "entries"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    entries = [
        structure(CatalogEntry, raw | {"group": file.name.removesuffix(".yaml")}, f"{file.name}[{index}]")
        for file in files
        for index, raw in enumerate(yaml.safe_load(file.read_text(encoding="utf-8")))
    ]
    return {entry.name: entry for entry in entries}


def find_catalog_entry(name: str) -> CatalogEntry:
    """Return the entry of a dataset by name or alias; case, `-` and `_` do not matter.

    Raises:
        DataError: There is no such entry; the message suggests a similar name.
    """
    if entry := _entries_by_name().get(_normalize_name(name)):
        return entry
    suggestion = suggest_name(name, [alias for entry in load_catalog().values() for alias in entry.all_names()])
    if not suggestion.startswith(" Did you mean"):
        suggestion = f" The catalog has: {', '.join(load_catalog())}."
    raise DataError(f"there is no folder {name!r}, and no dataset of that name is known.{suggestion}")


def find_available_entry(name: str, root: Path) -> CatalogEntry | None:
    """Return the entry of a dataset by name or alias if `root` has a copy, complete or not, else None."""
    entry = _entries_by_name().get(_normalize_name(name))
    return entry if entry is not None and is_available(entry, root) else None


@cache
def _entries_by_name() -> dict[str, CatalogEntry]:
    return {_normalize_name(alias): entry for entry in load_catalog().values() for alias in entry.all_names()}


def list_prompt_names(name: str) -> tuple[str, ...]:
    """Return all names under which files of prompts may list a dataset; () for one that is not in the catalog."""
    try:
        entry = find_catalog_entry(name)
    except DataError:
        return ()
    return (*entry.all_names(), *(find_catalog_entry(entry.prompts_of).all_names() if entry.prompts_of else ()))


def read_catalog_dataset(entry: CatalogEntry, root: Path, split: str = "test") -> AnyBenchmark:
    """Open the copy of a dataset in `root`: a CLIP_benchmark folder with any of its names, or an unpacked archive.

    Class names come from `classnames.txt` in the archive's folder, else from the entry, else from the archive. Prompt
    templates come from `zeroshot_classification_templates.txt` there, else from the entry.

    Raises:
        DataError: There is no copy, or it is damaged, a pickle, or without such a split.
    """
    for name in entry.folder_names():
        if list_splits(root / name) and read_dataset_type(root / name) == entry.task:
            return apply_catalog_entry(read_clip_benchmark(root / name, split), entry, split)
        if entry.task == "association" and (root / name).exists() and is_association_dataset(root / name):
            return apply_catalog_entry(read_association(root / name), entry, split)
    for folder in _question_folders(entry, root):
        if has_questions(entry, folder):
            return apply_catalog_entry(read_compositionality(entry, folder), entry, split)
    archives = _find_archives(entry, root)
    if not archives:
        raise DataError(_missing_message(entry, root, _search_dirs(entry, root)))
    for path, archive in archives:
        if any(files.split == split for files in archive.splits):
            content = archive.read(path, split)
            return apply_catalog_entry(_to_benchmark(entry, content, path / archive.folder), entry, split)
    available = dict.fromkeys(files.split for _, archive in archives for files in archive.splits)
    raise MissingSplit(f"{entry.title} in {archives[0][0]} has no split {split!r}. It has {', '.join(available)}")


def is_available(entry: CatalogEntry, root: Path) -> bool:
    """Return whether `root` has a copy of the dataset, complete or not."""
    return (
        any((root / name).exists() for name in entry.folder_names())
        or any(has_questions(entry, folder) for folder in _question_folders(entry, root))
        or bool(_find_archives(entry, root))
    )


def find_questions(path: Path) -> CatalogEntry | None:
    """Return the compositionality benchmark that a folder, or a JSON file, has questions of; None for other data.

    Raises:
        DataError: Several benchmarks are in one folder.
    """
    if not path.is_dir() and path.suffix != ".json":
        return None
    entries = [entry for entry in load_catalog().values() if has_questions(entry, path)]
    # SugarCrepe++ has all keys of SugarCrepe, and one more.
    widest = max((_num_captions(entry) for entry in entries), default=0)
    entries = [entry for entry in entries if _num_captions(entry) == widest]
    if len(entries) > 1:
        names = ", ".join(entry.name for entry in entries)
        raise DataError(
            f"{path} has the questions of several benchmarks: {names}. Name the file of one, or use these names with "
            f"--data-root {path.parent}"
        )
    return entries[0] if entries else None


def _num_captions(entry: CatalogEntry) -> int:
    return max(len(files.captions) for files in entry.questions)


def _question_folders(entry: CatalogEntry, root: Path) -> list[Path]:
    names = (*entry.all_names(), *([entry.shared_folder] if entry.shared_folder else []))
    return [root / name for name in names] if entry.questions else []


def _search_dirs(entry: CatalogEntry, root: Path) -> list[Path]:
    return [root, *(root / name for name in entry.all_names())]


def _find_archives(
    entry: CatalogEntry, root: Path
) -> list[tuple[Path, ArchiveFormat | CaptionArchive | DciArchive | RevisitedArchive]]:
    return [
        (path, archive)
        for path in _search_dirs(entry, root)
        for archive in entry.archives
        if (path / archive.folder).is_dir()
    ]


def apply_catalog_entry(benchmark: AnyBenchmark, entry: CatalogEntry, split: str) -> AnyBenchmark:
    """Set name, metric and groups of a benchmark, and add notes if its size differs from the catalog."""
    notes = (*benchmark.notes, *find_differences(benchmark, entry, split))
    benchmark = replace(benchmark, name=entry.name, metric=entry.metric, notes=notes)
    if isinstance(benchmark, ClassificationBenchmark) and entry.groups:
        return add_groups(benchmark, entry.groups)
    return benchmark


def find_differences(benchmark: AnyBenchmark, entry: CatalogEntry, split: str) -> list[str]:
    """Return how a benchmark differs from the catalog in samples and classes, so that scores may not be comparable."""
    differences = []
    num_samples = len(
        benchmark.questions
        if isinstance(benchmark, CompositionalityBenchmark | AssociationBenchmark)
        else benchmark.source
    )
    expected = next((size.size for size in entry.splits if size.name == split), None)
    if expected not in (None, num_samples):
        differences.append(
            f"{num_samples:,} samples, but the catalog expects {expected:,} in {split}: scores may not be comparable"
        )
    if (
        isinstance(benchmark, ClassificationBenchmark | MultilabelBenchmark)
        and len(benchmark.classnames) != entry.num_classes > 0
    ):
        differences.append(f"{len(benchmark.classnames)} classes, but the catalog expects {entry.num_classes}")
    if isinstance(benchmark, MultilingualRetrievalBenchmark) and len(benchmark.captions) != entry.num_languages > 0:
        differences.append(f"{len(benchmark.captions)} languages, but the catalog expects {entry.num_languages}")
    return differences


def _to_benchmark(
    entry: CatalogEntry, content: ArchiveSplit | CaptionedImages | AnyBenchmark, folder: Path
) -> AnyBenchmark:
    """Return the benchmark of an archive's content, with prompts where the task needs them."""
    match content:
        case CaptionedImages():
            return _to_retrieval(entry, content)
        case ArchiveSplit() if entry.task == "instances":
            return InstanceBenchmark(entry.name, content.source, notes=content.notes)
        case ArchiveSplit():
            return _to_classification(entry, content, folder)
        case FrameSetBenchmark() | ActionBenchmark() | LexiconBenchmark():
            return replace(content, templates=_read_templates(entry, folder))
        case _:
            return content


def _read_templates(entry: CatalogEntry, folder: Path) -> tuple[str, ...]:
    path = folder / TEMPLATES_FILENAME
    return read_templates(path) if path.is_file() else (entry.template,)


def _to_retrieval(entry: CatalogEntry, content: CaptionedImages) -> AnyBenchmark:
    """Return a benchmark of one language, or of several."""
    if len(content.captions) > 1:
        return MultilingualRetrievalBenchmark(entry.name, content.source, content.captions, notes=content.notes)
    ((language, captions),) = content.captions.items()
    notes = (*content.notes, *([f"captions in {name_language(language)}"] if language else []))
    return RetrievalBenchmark(entry.name, ImagesWithCaptions(content.source, captions), notes=notes)


def _to_classification(entry: CatalogEntry, archive_split: ArchiveSplit, folder: Path) -> ClassificationBenchmark:
    classnames = read_lines(folder / CLASSNAMES_FILENAME) if (folder / CLASSNAMES_FILENAME).is_file() else ()
    classnames = classnames or entry.classnames or archive_split.classnames
    if not classnames:
        raise DataError(
            f"{folder} has no names for its {entry.num_classes} classes. Write {CLASSNAMES_FILENAME} there, one "
            "name per line in the order of the labels"
        )
    min_label, max_label = int(archive_split.labels.min()), int(archive_split.labels.max())
    if min_label < 0 or max_label >= len(classnames):
        invalid_label = min_label if min_label < 0 else max_label
        raise DataError(
            f"{folder} has the label {invalid_label}, but there are {len(classnames)} class names. Correct "
            f"{CLASSNAMES_FILENAME}"
        )
    templates = _read_templates(entry, folder)
    notes = (*archive_split.notes, *empty_class_notes(np.unique(archive_split.labels).tolist(), classnames))
    return ClassificationBenchmark(
        entry.name,
        classnames,
        templates,
        archive_split.source,
        notes=notes,
        groups=archive_split.groups,
        right_labels=archive_split.right_labels,
    )


def _missing_message(entry: CatalogEntry, root: Path, search_dirs: list[Path]) -> str:
    pickled_archive = entry.pickled_archive
    for path in search_dirs:
        if pickled_archive and (path / pickled_archive.folder).is_dir():
            return (
                f"{path / pickled_archive.folder} is a pickle, which can execute code and is not read. Unpack "
                f"{pickled_archive.use_instead} with the same images into {path}"
            )
    folders = [archive.folder for archive in entry.archives]
    options = [f"unpack it into {root / folders[0]}"] if folders else []
    if entry.hub_name:
        options.append(
            f"name hf:{entry.hub_repo}, or put a copy of that repository into "
            f"{root / entry.hub_repo.rpartition('/')[2]}"
        )
    if entry.questions:
        folder, files = root / (entry.shared_folder or entry.name), entry.questions[0]
        options.append(f"put {files.files} into {folder}, with the images in {files.image_dirs[0]}/")
    if entry.task == "association":
        options.append(f"put its table into {root / entry.name}, with the images in images/")
    if not options:
        options.append(f"write it as a CLIP_benchmark folder {root / entry.name}")
    access = f". Its terms must be accepted first: {entry.access}" if entry.access else ""
    return f"there is no copy of {entry.title} in {root.absolute()}. To get one, {', or '.join(options)}{access}"


def _normalize_name(name: str) -> str:
    return name.lower().replace("_", "-").replace("/", "-")
