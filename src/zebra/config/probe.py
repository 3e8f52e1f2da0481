"""Settings of `zebra probe`."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig:
    """Settings for learning a classifier from examples."""

    model: str
    """A model in any layout that `zebra.load` reads."""
    data: str
    """Labeled images: a folder with a folder per class, or any labeled dataset that `zebra evaluate` reads."""
    out: str
    """The folder of the classifier; an existing classifier is replaced."""
    data_root: str | None = None
    """Directory with archives and copies of catalog datasets."""
    seed: int = 0
    """Seed of the choice of held-out images."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        if not self.out:
            raise ConfigError("no folder for the classifier; name it with --out")
