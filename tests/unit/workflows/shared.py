"""Function that a test runs in several processes: embed the images of a folder together."""

import torch

from zebra.config.data import DataConfig
from zebra.config.presets import get_preset
from zebra.data.sources import open_source
from zebra.evaluators.embeddings import embed_distributed
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle


class RecordingSource:
    """A source that records which samples are read."""

    def __init__(self, source):
        self.source, self.read_indices = source, []
        self.name, self.digest = source.name, source.digest

    def __len__(self):
        return len(self.source)

    def read(self, index):
        """Read one sample."""
        self.read_indices.append(index)
        return self.source.read(index)


def embed(group, folder):
    """Return ids, vectors and the indices that this process read."""
    torch.manual_seed(0)
    config = get_preset("tiny-resnet")
    clip = Bundle(CLIP(config).eval(), None, Preprocess(image_size=config.image_size))
    source = RecordingSource(open_source(folder, DataConfig()))
    embeddings = embed_distributed(clip, source, range(1, len(source)), group)
    return embeddings.ids, embeddings.vectors.tolist(), source.read_indices
