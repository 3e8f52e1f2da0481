"""What to evaluate, how, and where the scores go."""

from dataclasses import dataclass
from typing import Literal

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError

Task = Literal["zero-shot", "prompts", "prompt-search", "linear-probe", "few-shot", "retrieval", "selection"]
DEFAULT_TASKS: tuple[Task, ...] = ("zero-shot", "prompts", "retrieval", "selection")
"""What needs nothing but the test split and the text tower; whichever of them suit a set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """One model on a number of sets."""

    model: str
    """A model of any layout that `zebra.load` reads."""
    datasets: tuple[str, ...]
    """Whatever `zebra.evaluators.datasets.open_set` opens: a folder, a table, hf:org/name, a built-in or catalogue
    name."""
    out: str
    """The folder for metrics.json, results.jsonl, predictions/ and report.html."""
    tasks: tuple[Task, ...] = DEFAULT_TASKS
    """What to measure; a task that a set does not suit is left out there."""
    split: str = "test"
    """The split that is scored."""
    prompts: str = "own"
    """own: the set's templates; general: zebra's forty; or a file: .json by data set, OpenAI's prompts.md, or a folder
    with classnames.txt and templates."""
    caption_prefix: str = ""
    """Put before every caption of a retrieval set; the paper takes "a photo of "."""
    data_root: str | None = None
    """Where archives and copies of the catalogue's sets lie."""
    precision: InferencePrecision | Literal["auto"] = "fp32"
    """Number format of the towers."""
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Examples per class of the few-shot probes."""
    repeats: int = 3
    """Draws of examples, at least 3."""
    seed: int = 0
    """Of draws and bootstraps."""

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ConfigError("no data sets: name at least one")
        if not self.tasks:
            raise ConfigError("no tasks: name at least one, or leave --tasks out")
