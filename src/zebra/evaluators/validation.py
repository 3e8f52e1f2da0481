"""Captioned pictures that are never trained on in; a judge of models out."""

import warnings
from collections import Counter
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from zebra.data.sources import Source
from zebra.distributed import ALONE, World
from zebra.errors import BadSample, DataError
from zebra.images.decode import decode
from zebra.images.preprocess import Preprocess
from zebra.pretrained.bundle import Bundle
from zebra.protocols.retrieval import Retrieval, retrieve
from zebra.values import Embeddings

BATCH = 64
"""Pictures that pass the tower at once, in a check."""


class Judge(Protocol):
    """A score of a model, the higher the better; a check of a whole set is one, pictures held out are another."""

    @property
    def name(self) -> str:
        """What the journal calls it."""

    def __call__(self, clip: Bundle) -> float:
        """Return the score, in [0, 1]."""


class HeldOut:
    """Pictures and captions that are never trained on, decoded once; a check like those of whole sets."""

    name = "held-out"

    def __init__(self, source: Source, preprocess: Preprocess, world: World = ALONE) -> None:
        """Read all of a source; pictures that cannot be used are left out, with a warning that counts them.

        Args:
            world: The processes that embed a share of it each.
        """
        pixels: list[NDArray[np.uint8]] = []
        captions: list[str] = []
        owners: list[int] = []
        ids: list[str] = []
        skipped: Counter[str] = Counter()
        for index in range(len(source)):
            try:
                record = source.read(index)
                image = decode(record.image, record.id, mode=preprocess.decode)
            except BadSample as bad:
                skipped[bad.reason] += 1
                continue
            captions += record.captions
            owners += [len(ids)] * len(record.captions)
            ids.append(record.id)
            pixels.append(preprocess.pixels(image))
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        if not ids:
            raise DataError(
                f"{source.name}: not one picture can be used ({reasons}); zebra doctor names them"
            )
        if skipped:
            warnings.warn(f"{source.name}: left out {reasons}; zebra doctor names them", stacklevel=2)
        self.world = world
        self.pixels_N3HW = torch.from_numpy(np.stack(pixels))
        self.captions, self.owner_M, self.ids = captions, np.array(owners), tuple(ids)

    def __call__(self, clip: Bundle) -> float:
        """Return the mean reciprocal rank of the true caption and the true picture, in (0, 1]."""
        return reciprocal_rank(self.retrieve(clip))

    def retrieve(self, clip: Bundle) -> Retrieval:
        """Rank the held-out captions and pictures for each other."""
        mine_N3HW = self.pixels_N3HW[self.world.share(len(self.pixels_N3HW))]
        mine = [clip.encode_pixels(part) for part in torch.split(mine_N3HW, BATCH) if len(part)]
        image_NE = torch.cat([part for parts in self.world.objects(mine) for part in parts])
        text_ME = clip.encode_texts(self.captions)
        texts = tuple(map(str, range(len(self.captions))))
        return retrieve(
            Embeddings(image_NE.numpy(), self.ids), Embeddings(text_ME.numpy(), texts), self.owner_M
        )


def reciprocal_rank(found: Retrieval) -> float:
    """Average 1 / rank over both ways: it sees changes that recall at 1 of a few pictures does not."""
    return float((1 / found.text_rank_N).mean() + (1 / found.image_rank_M).mean()) / 2
