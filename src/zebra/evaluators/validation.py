"""Captioned pictures that are never trained on in; a judge of models out."""

import warnings
from collections import Counter
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from zebra.data.sources import Source
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import BadSample, DataError
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess
from zebra.pretrained.bundle import Bundle
from zebra.protocols.retrieval import RetrievalRanks, compute_retrieval_ranks
from zebra.values import Embeddings

IMAGE_BATCH_SIZE = 64
"""Pictures that pass the tower at once, in a check."""


class Validator(Protocol):
    """A score of a model, the higher the better; a check of a whole set is one, pictures held out are another."""

    @property
    def name(self) -> str:
        """What the journal calls it."""

    def __call__(self, clip: Bundle) -> float:
        """Return the score, in [0, 1]."""


class RetrievalValidator:
    """Pictures and captions that are never trained on, decoded once; a check like those of whole sets."""

    name = "held-out"

    def __init__(self, source: Source, preprocess: Preprocess, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Read all of a source; pictures that cannot be used are left out, with a warning that counts them.

        Args:
            group: The processes that embed a share of it each.
        """
        pixels: list[NDArray[np.uint8]] = []
        captions: list[str] = []
        owners: list[int] = []
        ids: list[str] = []
        skipped: Counter[str] = Counter()
        for index in range(len(source)):
            try:
                record = source.read(index)
                image = decode_image(record.image, record.id, mode=preprocess.decode)
            except BadSample as bad:
                skipped[bad.reason] += 1
                continue
            captions += record.captions
            owners += [len(ids)] * len(record.captions)
            ids.append(record.id)
            pixels.append(preprocess.resize_and_crop(image))
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        if not ids:
            raise DataError(
                f"{source.name}: not one picture can be used ({reasons}); zebra doctor names them"
            )
        if skipped:
            warnings.warn(f"{source.name}: left out {reasons}; zebra doctor names them", stacklevel=2)
        self.group = group
        self.pixels_N3HW = torch.from_numpy(np.stack(pixels))
        self.captions, self.image_index_M, self.ids = captions, np.array(owners), tuple(ids)

    def __call__(self, clip: Bundle) -> float:
        """Return the mean reciprocal rank of the true caption and the true picture, in (0, 1]."""
        return mean_reciprocal_rank(self.retrieve(clip))

    def retrieve(self, clip: Bundle) -> RetrievalRanks:
        """Rank the held-out captions and pictures for each other."""
        mine_N3HW = self.pixels_N3HW[self.group.local_slice(len(self.pixels_N3HW))]
        mine = [clip.encode_pixels(part) for part in torch.split(mine_N3HW, IMAGE_BATCH_SIZE) if len(part)]
        image_NE = torch.cat([part for parts in self.group.all_gather_object(mine) for part in parts])
        text_ME = clip.encode_texts(self.captions)
        texts = tuple(map(str, range(len(self.captions))))
        return compute_retrieval_ranks(
            Embeddings(image_NE.numpy(), self.ids), Embeddings(text_ME.numpy(), texts), self.image_index_M
        )


def mean_reciprocal_rank(retrieval: RetrievalRanks) -> float:
    """Average 1 / rank over both ways: it sees changes that recall at 1 of a few pictures does not."""
    return float((1 / retrieval.text_rank_N).mean() + (1 / retrieval.image_rank_M).mean()) / 2
