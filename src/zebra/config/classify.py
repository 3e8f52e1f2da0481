"""Settings of `zebra classify`."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyConfig:
    """Settings of the classification of image files."""

    model: str
    """A model in any layout that `zebra.load` reads, for example runs/demo/model."""
    images: tuple[str, ...]
    """Paths of the image files."""
    labels: tuple[str, ...]
    """Class names."""
    templates: tuple[str, ...] = ()
    """Prompts with {} in place of the label, averaged per class; if empty, "a photo of a {}."."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        if not self.images:
            raise ConfigError("no images given; name at least one image file")
