"""Settings of `zebra doctor`."""

from dataclasses import dataclass

from zebra.config.train import TrainConfig
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorConfig:
    """Settings of the inspection of a model, of captioned images or of the installation."""

    target: str = ""
    """A model or captioned images, in any layout; if empty, the installation is inspected."""
    max_samples: int | None = None
    """Number of samples to inspect; by default as many as 25 seconds allow."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    train: TrainConfig | None = None
    """The training run that captioned images are meant for; its `data` is replaced by `target`."""

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 1:
            raise ConfigError(f"samples is {self.max_samples}; it must be at least 1")
