"""A source that reports how many of its samples have been read."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zebra.data.ignored import Ignored
from zebra.data.sources import FrameSource, Source
from zebra.values import Record


class ReadCounter:
    """A source with a callback; a second pass over the samples is not reported."""

    def __init__(self, source: Source, callback: Callable[[int, int], None]) -> None:
        """Wrap a source.

        Args:
            callback: Called before the first sample and after each, with the number of samples read and their total.
        """
        self._source, self._callback = source, callback
        self._num_read = 0

    @property
    def name(self) -> str:
        """The name of the source."""
        return self._source.name

    @property
    def digest(self) -> str:
        """The digest of the source."""
        return self._source.digest

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """Files of the source that are not read."""
        return self._source.ignored

    def __len__(self) -> int:
        return len(self._source)

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        return self._source.sample_id(index)

    def read(self, index: int) -> Record:
        """Read one sample; raise BadSample if it cannot be used."""
        if self._num_read == 0:
            self._callback(0, len(self))
        record = self._source.read(index)
        self._num_read += 1
        if self._num_read <= len(self):
            self._callback(self._num_read, len(self))
        return record


class FrameReadCounter(ReadCounter):
    """A source of several images per sample; the images are counted."""

    def __init__(self, source: FrameSource, callback: Callable[[int, int], None]) -> None:
        """Wrap a source; see `ReadCounter`."""
        super().__init__(source, callback)
        self._frame_source = source

    def split_frames(self) -> tuple[Source, NDArray[np.int64]]:
        """Return a source of all images that reports how many have been read, and the samples of the images."""
        frames, sample_M = self._frame_source.split_frames()
        return ReadCounter(frames, self._callback), sample_M


def count_reads(source: Source, callback: Callable[[int, int], None]) -> Source:
    """Wrap a source so that it reports how many images have been read."""
    return FrameReadCounter(source, callback) if isinstance(source, FrameSource) else ReadCounter(source, callback)
