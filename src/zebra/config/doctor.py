"""Settings of `zebra doctor`."""

from dataclasses import dataclass

from zebra.config.train import TrainConfig
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorConfig:
    """Settings of the inspection of a model, of a dataset or of the installation."""

    target: str = ""
    """A model, an evaluation dataset, suite:NAME or captioned images; if empty, the installation is inspected."""
    max_samples: int | None = None
    """Number of samples to inspect; by default all images of an evaluation dataset, or as many as 25 seconds allow."""
    data_root: str | None = None
    """Directory with copies of the catalog's evaluation datasets."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    train: TrainConfig | None = None
    """The training run that captioned images are meant for; its `data` is replaced by `target`."""

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 1:
            raise ConfigError(f"samples is {self.max_samples}; it must be at least 1")
