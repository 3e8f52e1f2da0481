"""Metadata of evaluation datasets, as the files in `entries/` give it."""

from dataclasses import dataclass
from typing import Literal

from zebra.data.benchmarks.archives import ArchiveFormat
from zebra.data.benchmarks.caption_archives import CaptionArchive
from zebra.data.benchmarks.dci import DciArchive
from zebra.data.benchmarks.gallery_archives import RevisitedArchive
from zebra.data.benchmarks.question_files import QuestionFiles
from zebra.text.templates import DEFAULT_TEMPLATES

HUB_ORG = "clip-benchmark"
"""Organization of the hub repositories whose entries name none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSize:
    """The number of images of a split."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScore:
    """A published score, in percent."""

    task: Literal["zero-shot", "linear-probe", "retrieval", "geolocation", "zero-shot-resnet-50-gain"]
    value: float
    source: Literal["P", "P2", "U"]
    """How it was verified: P the paper's text, P2 a transcription of its table, U from memory."""
    metric: str = ""
    """Empty for the dataset's usual metric."""
    model: str = "ViT-L/14@336px"


@dataclass(frozen=True, kw_only=True, slots=True)
class PickledArchive:
    """A common copy in pickle format, which is refused because a pickle can execute code."""

    folder: str
    use_instead: str
    """The archive to use instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupColumn:
    """Where the copies of a dataset have the group of each image: in a vector of integers, the `.npy` of a sample."""

    name: str
    """What the groups are: region, income, …"""
    position: int
    """Position in the vector."""
    values: tuple[str, ...] = ()
    """Name of each integer; empty if the authors' order is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogEntry:
    """Metadata of an evaluation dataset."""

    name: str
    title: str
    group: str
    """The file with the entry: paper for the paper's 27 datasets, shifts for its distribution shifts, …"""
    task: Literal[
        "classification",
        "multilabel",
        "retrieval",
        "compositionality",
        "association",
        "frame-sets",
        "actions",
        "lexicons",
        "geolocation",
        "instances",
        "gallery",
    ] = "classification"
    metric: str = "accuracy"
    """The primary metric, as the dataset's authors or the paper define it."""
    num_classes: int = 0
    num_languages: int = 0
    """Number of languages of the captions; 0 for datasets in one language."""
    """0 for tasks without classes, or if the number depends on the copy."""
    splits: tuple[SplitSize, ...] = ()
    """Sizes of the public splits. A copy of another size is noted, never refused."""
    aliases: tuple[str, ...] = ()
    """Other names: torchvision's class, CLIP_benchmark's name."""
    hub_name: str = ""
    """Name of the hub repository, below `clip-benchmark/` if it names no organization; empty if there is none."""
    groups: GroupColumn | None = None
    """The groups of the worst-group metrics."""
    template: str = DEFAULT_TEMPLATES[0]
    """Prompt template for copies without templates."""
    template_source: Literal["paper", "zebra"] = "paper"
    """paper: stated in §3.1.4; zebra: written in the same style."""
    prompts_of: str = ""
    """Name of the dataset whose prompts apply: the shifts of ImageNet use ImageNet's."""
    classnames: tuple[str, ...] = ()
    """Class names for archives without them, such as digits."""
    archives: tuple[ArchiveFormat | CaptionArchive | DciArchive | RevisitedArchive, ...] = ()
    questions: tuple[QuestionFiles, ...] = ()
    """Files with questions, for compositionality."""
    min_category_size: int = 1
    """Smaller categories of questions do not count in the mean over categories."""
    shared_folder: str = ""
    """Another name of the folder of a copy, if several datasets share one."""
    pickled_archive: PickledArchive | None = None
    published_scores: tuple[PublishedScore, ...] = ()
    license: str = ""
    """SPDX identifier or the terms in a few words, from memory; empty if unknown. The authors' own page decides."""
    access: str = ""
    """Where to accept the terms or to register, for datasets that need it before a download."""
    known_errors: str = ""
    """Label errors and duplicates that are published, with their source."""
    notes: str = ""

    @property
    def hub_repo(self) -> str:
        """The hub repository with its organization; empty if there is none."""
        return self.hub_name if "/" in self.hub_name or not self.hub_name else f"{HUB_ORG}/{self.hub_name}"

    def all_names(self) -> tuple[str, ...]:
        """Return all names of the dataset, which are also folder names of its copies."""
        repository = self.hub_name.rpartition("/")[2]
        return tuple(dict.fromkeys((self.name, *self.aliases, *((repository,) if repository else ()))))

    def folder_names(self) -> tuple[str, ...]:
        """Return the folder names of copies: all names, and those that DataComp's download script gives."""
        names = self.all_names()
        datacomp_names = (
            f"{'' if name.startswith('wds_') else 'wds_'}{name.replace('/', '-').removesuffix('_test')}_test"
            for name in names
        )
        return tuple(dict.fromkeys((*names, *datacomp_names)))
