"""What several processes do in a test: embed the pictures of a folder together."""

import torch

from zebra.config.data import DataConfig
from zebra.config.presets import get_preset
from zebra.data.sources import open_source
from zebra.evaluators.embeddings import embed_distributed
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle


class Counting:
    """A source that counts what is read of it."""

    def __init__(self, source):
        self.source, self.read_indices = source, []
        self.name, self.digest = source.name, source.digest

    def __len__(self):
        return len(self.source)

    def read(self, index):
        """Read one sample."""
        self.read_indices.append(index)
        return self.source.read(index)


def embed(world, folder):
    """Return ids, vectors and what this process read."""
    torch.manual_seed(0)
    config = get_preset("tiny-resnet")
    clip = Bundle(CLIP(config).eval(), None, Preprocess(image_size=config.image_size))
    source = Counting(open_source(folder, DataConfig()))
    found = embed_distributed(clip, source, range(1, len(source)), world)
    return found.ids, found.vectors.tolist(), source.read_indices
