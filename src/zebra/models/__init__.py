"""The towers and the model that joins them: pixels and token ids in, vectors of one space out."""

from zebra.models.clip import CLIP as CLIP
