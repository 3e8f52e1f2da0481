"""Settings of `zebra models`."""

from dataclasses import dataclass
from typing import Literal

ModelTask = Literal["classify", "search", "multilingual", "small"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelsConfig:
    """Settings of the list of known models."""

    task: ModelTask | None = None
    """Only models that open and suit a task, best first."""
