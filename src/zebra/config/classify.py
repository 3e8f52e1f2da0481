"""Settings of `zebra classify`."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyConfig:
    """Settings of the classification of images."""

    model: str
    """A model in any layout that `zebra.load` reads, for example runs/demo/model."""
    images: tuple[str, ...]
    """Images, and folders or datasets of images as for `zebra embed`; "-" reads paths from standard input."""
    labels: tuple[str, ...] = ()
    """Class names; either these or a classifier."""
    templates: tuple[str, ...] = ()
    """Prompts with {} in place of the label, averaged per class; if empty, those of the model."""
    classifier: str | None = None
    """A classifier of `zebra probe`, learned with the same model."""
    calibrate: str | None = None
    """Labeled images of some of the labels, from which probabilities and the threshold of "none of these" follow."""
    threshold: float | None = None
    """Smallest cosine of an image with its nearest class; below it, the answer is "none of these". By default 95 % of
    the examples of a classifier, or of the images of `calibrate`, reach it; without either, no image is refused."""
    top_k: int | None = None
    """Number of labels per image, at most; None: 5."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""

    def __post_init__(self) -> None:
        if not self.images:
            raise ConfigError("no images given; name at least one image file or folder, or - for standard input")
        if self.classifier is None and not self.labels:
            raise ConfigError("no labels given; name classes with --labels, or a classifier with --classifier")
        if self.classifier is not None and (self.labels or self.templates or self.calibrate):
            raise ConfigError(
                "--classifier has its own classes and calibration; leave out --labels, --template and --calibrate"
            )
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise ConfigError(f"threshold is {self.threshold}; it is a cosine, from -1 to 1")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}; it must be at least 1")
