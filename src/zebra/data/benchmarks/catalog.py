"""The name of a well-known data set in; what is known about it, and a reader of the copy on this disk, out.

The records are data (`catalog.yaml`): the 27 sets of CLIP's evaluation (Appendix A), its natural distribution shifts,
retrieval and caption selection. Nothing in the code depends on which set it is.
"""

from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from zebra.config.structure import structure
from zebra.data.benchmarks.archives import ArchiveFormat
from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES_FILENAME,
    TEMPLATES_FILENAME,
    list_splits,
    read_clip_benchmark,
    read_lines,
    read_templates,
)
from zebra.data.benchmarks.compositionality import is_compositionality_dataset, read_compositionality
from zebra.data.benchmarks.tasks import (
    AnyBenchmark,
    ClassificationBenchmark,
    CompositionalityBenchmark,
    MultilabelBenchmark,
)
from zebra.data.image_source import empty_class_notes
from zebra.errors import DataError, suggest_name
from zebra.text.templates import DEFAULT_TEMPLATES

HUB_ORG = "clip-benchmark"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSize:
    """How many pictures a split has."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScore:
    """A score that the paper prints, in percent."""

    task: Literal["zero-shot", "linear-probe", "zero-shot-resnet-50-gain"]
    value: float
    source: Literal["P", "P2", "U"]
    """How far it is verified: P paper's text, P2 a transcription of its table, U from memory."""
    metric: str = ""
    """If it is not the set's own."""
    model: str = "ViT-L/14@336px"


@dataclass(frozen=True, kw_only=True, slots=True)
class PickledArchive:
    """A copy that many have on disk, but that can only be read by running what it says."""

    folder: str
    use_instead: str
    """The archive to take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogEntry:
    """What is known about a data set."""

    name: str
    title: str
    group: Literal["paper", "shift", "retrieval", "compositionality", "other"]
    """Of the paper's 27 sets, its distribution shifts, or others."""
    task: Literal["classification", "multilabel", "retrieval", "compositionality"] = "classification"
    metric: str = "accuracy"
    num_classes: int = 0
    splits: tuple[SplitSize, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names: torchvision's class, CLIP_benchmark's name."""
    hub_name: str = ""
    """The repository's name under `clip-benchmark/` on the hub; empty if there is none."""
    template: str = DEFAULT_TEMPLATES[0]
    """The prompt where a copy brings none."""
    template_source: Literal["paper", "zebra"] = "paper"
    """Whether the paper's §3.1.4 states it, or it is written in its manner."""
    classnames: tuple[str, ...] = ()
    """Where they are a matter of course, such as digits."""
    archives: tuple[ArchiveFormat, ...] = ()
    pickled_archive: PickledArchive | None = None
    published_scores: tuple[PublishedScore, ...] = ()
    notes: str = ""

    def all_names(self) -> tuple[str, ...]:
        """Return every name under which the set may be asked for, or lie in a folder."""
        return tuple(dict.fromkeys((self.name, *self.aliases, *((self.hub_name,) if self.hub_name else ()))))


@cache
def load_catalog() -> dict[str, CatalogEntry]:
    """Read the catalogue: name → record, in its order."""
    text = (resources.files("zebra.data.benchmarks") / "catalog.yaml").read_text(encoding="utf-8")
    found = [structure(CatalogEntry, raw, f"catalog.yaml[{i}]") for i, raw in enumerate(yaml.safe_load(text))]
    return {record.name: record for record in found}


def find_catalog_entry(name: str) -> CatalogEntry:
    """Return the record of a set by its name or an alias, in any case, `-` and `_` alike.

    Raises:
        DataError: There is none; the message names the nearest.
    """
    known = {
        _normalize_name(alias): record for record in load_catalog().values() for alias in record.all_names()
    }
    if record := known.get(_normalize_name(name)):
        return record
    close = suggest_name(name, [alias for record in load_catalog().values() for alias in record.all_names()])
    if not close.startswith(" Did you mean"):
        close = f" The catalogue has: {', '.join(load_catalog())}."
    raise DataError(f"there is no folder {name!r}, and no data set of that name is known.{close}")


def read_catalog_dataset(entry: CatalogEntry, root: Path, split: str = "test") -> AnyBenchmark:
    """Open the copy of a set that lies in `root`: a CLIP_benchmark folder of any of its names, or an unpacked archive.

    Class names come from `classnames.txt` in the archive's folder, else from the record, else from the archive; prompts
    from `zeroshot_classification_templates.txt` there, else from the record.

    Raises:
        DataError: No copy is there, or it is damaged, a pickle, or has no such split.
    """
    for name in entry.all_names():
        if list_splits(root / name):
            return apply_catalog_entry(read_clip_benchmark(root / name, split), entry, split)
        if (
            entry.task == "compositionality"
            and (root / name).exists()
            and is_compositionality_dataset(root / name)
        ):
            return apply_catalog_entry(read_compositionality(root / name), entry, split)
    found = _find_archives(entry, root)
    if not found:
        raise DataError(_missing_message(entry, root, _search_dirs(entry, root)))
    for place, archive in found:
        if any(part.split == split for part in archive.splits):
            return apply_catalog_entry(_read_archive(entry, archive, place, split), entry, split)
    there = dict.fromkeys(part.split for _, archive in found for part in archive.splits)
    raise DataError(f"{entry.title} in {found[0][0]} has no split {split!r}; it has {', '.join(there)}")


def is_available(entry: CatalogEntry, root: Path) -> bool:
    """Say whether a copy of a set lies in `root`, whole or not."""
    return any((root / name).exists() for name in entry.all_names()) or bool(_find_archives(entry, root))


def _search_dirs(entry: CatalogEntry, root: Path) -> list[Path]:
    return [root, *(root / name for name in entry.all_names())]


def _find_archives(entry: CatalogEntry, root: Path) -> list[tuple[Path, ArchiveFormat]]:
    places = _search_dirs(entry, root)
    return [(place, one) for place in places for one in entry.archives if (place / one.folder).is_dir()]


def apply_catalog_entry(benchmark: AnyBenchmark, entry: CatalogEntry, split: str) -> AnyBenchmark:
    """Give a set its name and metric, and note where it is not of the size that the record expects."""
    notes = list(benchmark.notes)
    found = len(benchmark.questions if isinstance(benchmark, CompositionalityBenchmark) else benchmark.source)
    expected = next((one.size for one in entry.splits if one.name == split), None)
    if expected not in (None, found):
        notes.append(
            f"{found:,} samples, where the catalogue expects {expected:,} in {split}: scores may not compare"
        )
    if (
        isinstance(benchmark, ClassificationBenchmark | MultilabelBenchmark)
        and len(benchmark.classnames) != entry.num_classes
    ):
        notes.append(f"{len(benchmark.classnames)} classes, where the catalogue expects {entry.num_classes}")
    return replace(benchmark, name=entry.name, metric=entry.metric, notes=tuple(notes))


def _read_archive(
    entry: CatalogEntry, archive: ArchiveFormat, root: Path, split: str
) -> ClassificationBenchmark:
    unpacked = archive.read(root, split)
    folder = root / archive.folder
    classnames = read_lines(folder / CLASSNAMES_FILENAME) if (folder / CLASSNAMES_FILENAME).is_file() else ()
    classnames = classnames or entry.classnames or unpacked.classnames
    if not classnames:
        raise DataError(
            f"{folder} does not say what its {entry.num_classes} classes are called; write {CLASSNAMES_FILENAME} there, a name per "
            "line, class 0 first"
        )
    lowest, highest = int(unpacked.labels.min()), int(unpacked.labels.max())
    if lowest < 0 or highest >= len(classnames):
        wrong = lowest if lowest < 0 else highest
        raise DataError(f"{folder} has the label {wrong}, but there are names for {len(classnames)} classes")
    own = folder / TEMPLATES_FILENAME
    templates = read_templates(own) if own.is_file() else (entry.template,)
    notes = empty_class_notes(np.unique(unpacked.labels).tolist(), classnames)
    return ClassificationBenchmark(entry.name, classnames, templates, unpacked.source, notes=notes)


def _missing_message(entry: CatalogEntry, root: Path, search_dirs: list[Path]) -> str:
    pickled = entry.pickled_archive
    for place in search_dirs:
        if pickled and (place / pickled.folder).is_dir():
            return (
                f"{place / pickled.folder} is a pickle, which runs what it says when it is opened; zebra reads "
                f"{pickled.use_instead} instead, the same pictures: unpack it into {place}"
            )
    folders = [archive.folder for archive in entry.archives]
    ways = [f"unpack it so that {root / folders[0]} is there"] if folders else []
    if entry.hub_name:
        ways.append(
            f"name hf:{HUB_ORG}/{entry.hub_name}, or put a copy of that repository into {root / entry.hub_name}"
        )
    if entry.task == "compositionality":
        ways.append(f"put its files into {root / entry.name}, with the pictures in images/")
    if not ways:
        ways.append(f"write it as a CLIP_benchmark folder {root / entry.name}")
    return f"there is no copy of {entry.title} in {root.absolute()}; {', or '.join(ways)}"


def _normalize_name(name: str) -> str:
    return name.lower().replace("_", "-").replace("/", "-")
