"""Frames of videos: which ones, and the average of their vectors."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.tasks import AnyBenchmark
from zebra.data.sources import Source
from zebra.data.video_clips import ClipSource
from zebra.protocols.prompts import normalize_rows
from zebra.values import Embeddings

AnyVideoBenchmark = TypeVar("AnyVideoBenchmark", bound=AnyBenchmark)


def select_frames(benchmark: AnyVideoBenchmark, frames: str) -> AnyVideoBenchmark:
    """Return a dataset of videos with another choice of frames, and any other dataset as it is.

    Args:
        frames: middle, all or a rate; as in `zebra.config.frames`.
    """
    if not isinstance(benchmark.source, ClipSource) or frames == benchmark.source.frames:
        return benchmark
    note = f"each video is the mean of the vectors of its frames ({frames})"
    return replace(benchmark, source=benchmark.source.select_frames(frames), notes=(*benchmark.notes, note))


def average_frames(images: Embeddings, source: Source, sample_M: NDArray[np.int64], *, projected: bool) -> Embeddings:
    """Average the vectors of the images of each sample (CLIP Table 15).

    Args:
        images: Embeddings of M images.
        source: The N samples.
        sample_M: The sample of each image, increasing; each sample has at least one image.
        projected: Scale the averages to unit length again, which vectors after the projection have.
    """
    first_N = np.flatnonzero(np.diff(sample_M, prepend=-1))
    sum_NE = np.add.reduceat(images.vectors, first_N, axis=0)
    mean_NE: NDArray[np.float32] = (sum_NE / np.bincount(sample_M)[:, None]).astype(np.float32)
    ids = tuple(source.sample_id(index) for index in range(len(source)))
    labels = None if images.labels is None else images.labels[first_N]
    return Embeddings(normalize_rows(mean_NE) if projected else mean_NE, ids, labels, images.fingerprint)
