"""Settings of `zebra evaluate`."""

from dataclasses import dataclass
from typing import Literal

from zebra.config.frames import validate_clip_frames
from zebra.config.precision import InferencePrecision
from zebra.config.score_table import ScoreTableFormat, validate_table_path
from zebra.errors import ConfigError

Task = Literal[
    "zero-shot",
    "prompts",
    "prompt-search",
    "linear-probe",
    "few-shot",
    "retrieval",
    "compositionality",
    "association",
    "image-retrieval",
    "clustering",
    "calibration",
    "ood",
    "geolocation",
]
DEFAULT_TASKS: tuple[Task, ...] = (
    "zero-shot",
    "prompts",
    "retrieval",
    "compositionality",
    "association",
    "geolocation",
)
"""Tasks that need only the test split and the text tower; a dataset runs those that apply to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Settings for evaluating one model on one or more datasets."""

    model: str
    """A model in any layout that `zebra.load` reads."""
    datasets: tuple[str, ...]
    """Folders, tables, hf:org/name, or names of built-in or catalog datasets."""
    out: str
    """The directory for metrics.json, results.jsonl, predictions/ and report.html."""
    tasks: tuple[Task, ...] = DEFAULT_TASKS
    """Tasks to run; a dataset skips the tasks that do not apply to it."""
    split: str = "test"
    """The split to evaluate."""
    prompts: str = "dataset"
    """dataset: its own templates, or the model's if it has none; model: the model's; general: zebra's 40; or a path:
    .json by dataset, prompts.md, or a folder."""
    caption_prefix: str = ""
    """Prefix of every caption in retrieval; the paper uses "a photo of "."""
    languages: tuple[str, ...] = ()
    """Codes of the languages of multilingual datasets, such as de,sw; () for all."""
    data_root: str | None = None
    """Directory with archives and copies of catalog datasets."""
    precision: InferencePrecision | Literal["auto"] = "fp32"
    """Precision of the towers."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    engine: Literal["threads", "ray"] = "threads"
    """ray embeds the images on the workers of a Ray cluster; needs zebra-clip[ray]."""
    workers: int | None = None
    """Ray workers; by default one for each core or GPU of the cluster."""
    ood_datasets: tuple[str, ...] = ()
    """Datasets of unknown classes for the task ood, separated by commas."""
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Examples per class in few-shot probes."""
    repeats: int = 3
    """Number of few-shot draws, at least 3."""
    seed: int = 0
    """Seed of few-shot draws and bootstraps."""
    frames: str = "middle"
    """Frames of each video: middle, the middle one; all, or a rate such as 1/s: the mean of their vectors."""
    table: str | None = None
    """Also write the scores to this file; its suffix decides the format: .csv, .md (Markdown) or .tex (LaTeX)."""
    format: ScoreTableFormat | None = None
    """Format of --table instead of that of its suffix; without --table, print the scores in it to standard output.
    hf-card is the front matter of a model card on the hub."""

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ConfigError("no datasets given; name at least one")
        if not self.tasks:
            raise ConfigError("no tasks given; name at least one, or omit --tasks")
        validate_clip_frames(self.frames)
        if "ood" in self.tasks and not self.ood_datasets:
            raise ConfigError(
                "the task ood needs --ood-datasets DATASET,DATASET: images of classes that the evaluated dataset does "
                "not have"
            )
        validate_table_path(self.table, self.format)
