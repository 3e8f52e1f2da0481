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
from zebra.data.benchmarks.archives import Layout
from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES,
    TEMPLATES,
    Benchmark,
    MultilabelBenchmark,
    RetrievalBenchmark,
    read_any,
    read_lines,
    read_templates,
    splits,
)
from zebra.data.benchmarks.compositionality import (
    SelectionBenchmark,
    is_selection,
    read_selection,
)
from zebra.data.image_source import empty_classes
from zebra.errors import DataError, nearest
from zebra.text.templates import DEFAULT_TEMPLATES

AnyBenchmark = Benchmark | MultilabelBenchmark | RetrievalBenchmark | SelectionBenchmark
"""One split of a set of any task."""
HUB_OWNER = "clip-benchmark"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSize:
    """How many pictures a split has."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A score that the paper prints, in percent."""

    task: Literal["zero-shot", "probe", "zero-shot-resnet-50-gain"]
    value: float
    tag: Literal["P", "P2", "U"]
    """How far it is verified: P paper's text, P2 a transcription of its table, U from memory."""
    metric: str = ""
    """If it is not the set's own."""
    model: str = "ViT-L/14@336px"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pickled:
    """A copy that many have on disk, but that can only be read by running what it says."""

    folder: str
    instead: str
    """The archive to take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetRecord:
    """What is known about a data set."""

    name: str
    title: str
    group: Literal["paper", "shift", "retrieval", "selection", "other"]
    """Of the paper's 27 sets, its distribution shifts, or others."""
    task: Literal["classification", "multilabel", "retrieval", "selection"] = "classification"
    metric: str = "accuracy"
    classes: int = 0
    splits: tuple[SplitSize, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names: torchvision's class, CLIP_benchmark's name."""
    hub: str = ""
    """The repository's name under `clip-benchmark/` on the hub; empty if there is none."""
    template: str = DEFAULT_TEMPLATES[0]
    """The prompt where a copy brings none."""
    template_from: Literal["paper", "zebra"] = "paper"
    """Whether the paper's §3.1.4 states it, or it is written in its manner."""
    classnames: tuple[str, ...] = ()
    """Where they are a matter of course, such as digits."""
    archives: tuple[Layout, ...] = ()
    pickled: Pickled | None = None
    published: tuple[Published, ...] = ()
    notes: str = ""

    def names(self) -> tuple[str, ...]:
        """Return every name under which the set may be asked for, or lie in a folder."""
        return tuple(dict.fromkeys((self.name, *self.aliases, *((self.hub,) if self.hub else ()))))


@cache
def records() -> dict[str, SetRecord]:
    """Read the catalogue: name → record, in its order."""
    text = (resources.files("zebra.data.benchmarks") / "catalog.yaml").read_text(encoding="utf-8")
    found = [structure(SetRecord, raw, f"catalog.yaml[{i}]") for i, raw in enumerate(yaml.safe_load(text))]
    return {record.name: record for record in found}


def find_record(name: str) -> SetRecord:
    """Return the record of a set by its name or an alias, in any case, `-` and `_` alike.

    Raises:
        DataError: There is none; the message names the nearest.
    """
    known = {_plain(alias): record for record in records().values() for alias in record.names()}
    if record := known.get(_plain(name)):
        return record
    close = nearest(name, [alias for record in records().values() for alias in record.names()])
    if not close.startswith(" Did you mean"):
        close = f" The catalogue has: {', '.join(records())}."
    raise DataError(f"there is no folder {name!r}, and no data set of that name is known.{close}")


def read_record(record: SetRecord, root: Path, split: str = "test") -> AnyBenchmark:
    """Open the copy of a set that lies in `root`: a CLIP_benchmark folder of any of its names, or an unpacked archive.

    Class names come from `classnames.txt` in the archive's folder, else from the record, else from the archive; prompts
    from `zeroshot_classification_templates.txt` there, else from the record.

    Raises:
        DataError: No copy is there, or it is damaged, a pickle, or has no such split.
    """
    for name in record.names():
        if splits(root / name):
            return described(read_any(root / name, split), record, split)
        if record.task == "selection" and (root / name).exists() and is_selection(root / name):
            return described(read_selection(root / name), record, split)
    found = _archives(record, root)
    if not found:
        raise DataError(_not_found(record, root, _places(record, root)))
    for place, archive in found:
        if any(part.split == split for part in archive.parts):
            return described(_unpack(record, archive, place, split), record, split)
    there = dict.fromkeys(part.split for _, archive in found for part in archive.parts)
    raise DataError(f"{record.title} in {found[0][0]} has no split {split!r}; it has {', '.join(there)}")


def is_there(record: SetRecord, root: Path) -> bool:
    """Say whether a copy of a set lies in `root`, whole or not."""
    return any((root / name).exists() for name in record.names()) or bool(_archives(record, root))


def _places(record: SetRecord, root: Path) -> list[Path]:
    return [root, *(root / name for name in record.names())]


def _archives(record: SetRecord, root: Path) -> list[tuple[Path, Layout]]:
    places = _places(record, root)
    return [(place, one) for place in places for one in record.archives if (place / one.folder).is_dir()]


def described(benchmark: AnyBenchmark, record: SetRecord, split: str) -> AnyBenchmark:
    """Give a set its name and metric, and note where it is not of the size that the record expects."""
    notes = list(benchmark.notes)
    found = len(benchmark.questions if isinstance(benchmark, SelectionBenchmark) else benchmark.source)
    expected = next((one.size for one in record.splits if one.name == split), None)
    if expected not in (None, found):
        notes.append(
            f"{found:,} samples, where the catalogue expects {expected:,} in {split}: scores may not compare"
        )
    if isinstance(benchmark, Benchmark | MultilabelBenchmark) and len(benchmark.classnames) != record.classes:
        notes.append(f"{len(benchmark.classnames)} classes, where the catalogue expects {record.classes}")
    return replace(benchmark, name=record.name, metric=record.metric, notes=tuple(notes))


def _unpack(record: SetRecord, archive: Layout, place: Path, split: str) -> Benchmark:
    unpacked = archive.read(place, split)
    folder = place / archive.folder
    classnames = read_lines(folder / CLASSNAMES) if (folder / CLASSNAMES).is_file() else ()
    classnames = classnames or record.classnames or unpacked.classnames
    if not classnames:
        raise DataError(
            f"{folder} does not say what its {record.classes} classes are called; write {CLASSNAMES} there, a name per "
            "line, class 0 first"
        )
    lowest, highest = int(unpacked.labels.min()), int(unpacked.labels.max())
    if lowest < 0 or highest >= len(classnames):
        wrong = lowest if lowest < 0 else highest
        raise DataError(f"{folder} has the label {wrong}, but there are names for {len(classnames)} classes")
    own = folder / TEMPLATES
    templates = read_templates(own) if own.is_file() else (record.template,)
    notes = empty_classes(np.unique(unpacked.labels).tolist(), classnames)
    return Benchmark(record.name, classnames, templates, unpacked.source, notes=notes)


def _not_found(record: SetRecord, root: Path, places: list[Path]) -> str:
    pickled = record.pickled
    for place in places:
        if pickled and (place / pickled.folder).is_dir():
            return (
                f"{place / pickled.folder} is a pickle, which runs what it says when it is opened; zebra reads "
                f"{pickled.instead} instead, the same pictures: unpack it into {place}"
            )
    folders = [archive.folder for archive in record.archives]
    ways = [f"unpack it so that {root / folders[0]} is there"] if folders else []
    if record.hub:
        ways.append(
            f"name hf:{HUB_OWNER}/{record.hub}, or put a copy of that repository into {root / record.hub}"
        )
    if record.task == "selection":
        ways.append(f"put its files into {root / record.name}, with the pictures in images/")
    if not ways:
        ways.append(f"write it as a CLIP_benchmark folder {root / record.name}")
    return f"there is no copy of {record.title} in {root.absolute()}; {', or '.join(ways)}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace("/", "-")
