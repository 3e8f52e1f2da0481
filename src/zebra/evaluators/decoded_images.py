"""Decoded images of datasets, and the error for an image that cannot be used."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zebra.data.sources import Source
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess
from zebra.images.tensors import stack_pixels
from zebra.pretrained.bundle import BATCH_SIZE, Bundle
from zebra.values import Embeddings, Record


@dataclass(frozen=True, slots=True)
class DecodedImages:
    """Images of a dataset, decoded once to be embedded by several models."""

    ids: tuple[str, ...]
    """Ids of all images, not only of this process's."""
    pixels: Sequence[NDArray[np.uint8]]
    """Preprocessed images [3, H, W]; only this process's slice."""
    labels: NDArray[np.int64]
    """Class indices of all images; -1 for none."""
    group: ProcessGroup = SINGLE_PROCESS
    """Processes that each embed a slice."""

    @classmethod
    def decode(
        cls, source: Source, preprocess: Preprocess, indices: Sequence[int], group: ProcessGroup = SINGLE_PROCESS
    ) -> "DecodedImages":
        """Decode the images at the given positions of a source, each process its slice.

        Raises:
            BadSample: An image cannot be used.
        """
        try:
            records = [source.read(index) for index in indices[group.local_slice(len(indices))]]
            pixels = [decode_and_resize(record, preprocess) for record in records]
        except BadSample as bad:
            raise name_bad_sample(bad, source, bad.location) from bad
        ids_and_labels = [(record.id, -1 if record.label is None else record.label) for record in records]
        gathered = [pair for part in group.all_gather_object(ids_and_labels) for pair in part]
        labels = np.array([label for _, label in gathered], dtype=np.int64)
        return cls(tuple(id for id, _ in gathered), pixels, labels, group)

    def embed(self, clip: Bundle) -> Embeddings:
        """Embed all images, each process its slice; all processes get all embeddings in order."""
        starts = range(0, len(self.pixels), BATCH_SIZE)
        local = [clip.encode_pixels(stack_pixels(self.pixels[start : start + BATCH_SIZE])) for start in starts]
        parts = [part for parts in self.group.all_gather_object(local) for part in parts]
        return Embeddings(torch.cat(parts).numpy(), self.ids, self.labels, clip.fingerprint)


def decode_and_resize(record: Record, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return the image of a record as model input, uint8 [3, H, W]; BadSample if it cannot be used."""
    image = decode_image(record.image, record.id, mode=preprocess.decode, max_aspect_ratio=preprocess.max_aspect_ratio)
    return preprocess.resize_and_crop(image)


def name_bad_sample(bad: BadSample, source: Source, location: str) -> BadSample:
    """Return a BadSample that names the dataset, and that it is scored with all images or not at all."""
    advice = "A score without it would belong to another dataset. Repair or replace the image"
    detail = f"{bad.detail}. {advice}" if bad.detail else advice
    return BadSample(bad.reason, f"{source.name}: {location}", detail)
