"""Images that are made from those of another source while they are read."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zebra.data.ignored import Ignored
from zebra.data.image_source import encode_png, hash_values
from zebra.data.sources import Source
from zebra.images.decode import decode_image
from zebra.values import Record


@dataclass(frozen=True, slots=True)
class DerivedImages:
    """Images as PNG, without loss, each made from one image of another source; a `zebra.data.sources.Source`."""

    source: Source
    origins: Sequence[int]
    """Position in the source of what each image is made from."""
    labels: Sequence[str]
    """What was done to each image; appended to its ID after a `#`. Empty: the image is passed on as it is."""
    change: Callable[[int, Image.Image], Image.Image]
    """Position and RGB image → image; picklable."""

    @property
    def name(self) -> str:
        """The name of the other source."""
        return self.source.name

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the digest of the other source and the transform of its images."""
        return hash_values("derived", self.source.digest, list(self.origins), list(self.labels))

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """Files that the other source ignored."""
        return self.source.ignored

    def __len__(self) -> int:
        return len(self.origins)

    def sample_id(self, index: int) -> str:
        """Return the ID of an image without reading it."""
        label = self.labels[index]
        return self.source.sample_id(self.origins[index]) + (f"#{label}" if label else "")

    def read(self, index: int) -> Record:
        """Read and make one image; raise BadSample if it cannot be used."""
        record = self.source.read(self.origins[index])
        if not self.labels[index]:
            return record
        image = decode_image(record.image, record.id, max_aspect_ratio=math.inf)
        png = encode_png(np.asarray(self.change(index, image), dtype=np.uint8))
        return Record(self.sample_id(index), png, label=record.label)
