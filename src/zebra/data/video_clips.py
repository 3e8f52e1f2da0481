"""Frames of clips: whole videos, or segments of them, each of which is one sample."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.config.frames import ALL_FRAMES, MIDDLE_FRAME, seconds_between_frames
from zebra.data.ignored import Ignored
from zebra.data.image_source import hash_values
from zebra.data.sources import Source
from zebra.data.video_frames import (
    TIME_TOLERANCE,
    VIDEO_TIME_SEPARATOR,
    encode_jpeg,
    import_av,
    open_video,
    seconds_of,
    stated_duration,
    to_timestamp,
)
from zebra.errors import BadSample, DataError
from zebra.values import Record


@dataclass(frozen=True, slots=True)
class VideoClip:
    """A video, or the part of it between two times."""

    path: Path
    start: float = 0.0
    """Seconds after the start of the video."""
    end: float | None = None
    """None: the end of the video."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Clips in a fixed order, each represented by its middle frame; a `zebra.data.sources.Source`."""

    name: str
    """The folder of the videos."""
    ids: Sequence[str]
    clips: Sequence[VideoClip]
    content_digest: str
    """A SHA-256 in hex of the list of clips and the sizes of their files."""
    labels: Sequence[int] | None = None
    frames: str = MIDDLE_FRAME
    """middle, all, or a rate such as 1/s; as in `zebra.config.frames`."""
    ignored: tuple[Ignored, ...] = ()

    @property
    def digest(self) -> str:
        """A SHA-256 in hex that changes with the clips and with the choice of frames."""
        return self.content_digest if self.frames == MIDDLE_FRAME else hash_values(self.content_digest, self.frames)

    def __len__(self) -> int:
        return len(self.ids)

    def sample_id(self, index: int) -> str:
        """Return the ID of a clip without reading it."""
        return self.ids[index]

    def read(self, index: int) -> Record:
        """Read the middle frame of a clip; raise BadSample if it cannot be decoded."""
        return self._to_record(index, read_middle_frame(self.clips[index]))

    def select_frames(self, frames: str) -> "ClipSource":
        """Return the same clips with another choice of frames."""
        kind = ClipSource if frames == MIDDLE_FRAME else AveragedClipSource
        return kind(self.name, self.ids, self.clips, self.content_digest, self.labels, frames, self.ignored)

    def _to_record(self, index: int, frame: bytes) -> Record:
        return Record(self.ids[index], frame, label=None if self.labels is None else int(self.labels[index]))


class AveragedClipSource(ClipSource):
    """Clips of which several frames are averaged; a `zebra.data.sources.FrameSource`."""

    __slots__ = ()

    def split_frames(self) -> tuple[Source, NDArray[np.int64]]:
        """Return a source of all frames, and the positions of their clips.

        Raises:
            BadSample: A video cannot be opened.
        """
        times = [list_frame_times(clip, self.frames) for clip in self.clips]
        sample_M = np.repeat(np.arange(len(times)), [len(seconds) for seconds in times])
        return _FlatFrames(self, times, sample_M), sample_M


class _FlatFrames:
    """All frames of clips one after the other; the frames of the clip that was read last are kept."""

    def __init__(self, clips: ClipSource, times: Sequence[Sequence[float]], sample_M: NDArray[np.int64]) -> None:
        self.name, self.digest, self.ignored = clips.name, hash_values("frames", clips.digest), clips.ignored
        self._clips, self._times, self._sample_M = clips, times, sample_M
        self._first_N = np.flatnonzero(np.diff(sample_M, prepend=-1))
        self._decoded: tuple[int, list[bytes]] = (-1, [])

    def __len__(self) -> int:
        return len(self._sample_M)

    def sample_id(self, index: int) -> str:
        sample = int(self._sample_M[index])
        return f"{self._clips.ids[sample]}{VIDEO_TIME_SEPARATOR}{index - int(self._first_N[sample])}"

    def read(self, index: int) -> Record:
        sample = int(self._sample_M[index])
        number, frames = self._decoded
        if number != sample:
            frames = read_frames_at(self._clips.clips[sample].path, self._times[sample])
            self._decoded = sample, frames
        label = None if self._clips.labels is None else int(self._clips.labels[sample])
        return Record(self.sample_id(index), frames[index - int(self._first_N[sample])], label=label)


def open_clips(
    root: Path, clips: Sequence[VideoClip], labels: Sequence[int] | None = None, ids: Sequence[str] | None = None
) -> ClipSource:
    """Return a source of clips; an ID is by default the path below `root`, with the times of a segment.

    Raises:
        DataError: A file is missing.
        MissingExtra: PyAV is not installed.
    """
    import_av()
    names = [clip.path.relative_to(root).as_posix() for clip in clips]
    ids = ids or [
        name if clip.end is None else f"{name}#{clip.start:g}-{clip.end:g}"
        for name, clip in zip(names, clips, strict=True)
    ]
    try:
        sizes = [clip.path.stat().st_size for clip in clips]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Unpack the dataset again") from error
    times = [(clip.start, clip.end) for clip in clips]
    digest = hash_values("clips", [*zip(ids, names, sizes, times, strict=True)], labels)
    return ClipSource(str(root), ids, clips, digest, labels)


def read_middle_frame(clip: VideoClip) -> bytes:
    """Return the frame that is shown at the middle of a clip, as JPEG: frame N // 2 of N at a constant rate.

    Raises:
        BadSample: The video cannot be decoded.
    """
    end, _ = _find_end(clip)
    return read_frames_at(clip.path, [(clip.start + end) / 2])[0]


def list_frame_times(clip: VideoClip, frames: str) -> list[float]:
    """Return the times of the frames of a clip in seconds after the start of the video.

    Args:
        clip: The clip.
        frames: all, or a rate as in `zebra.config.frames`.

    Raises:
        BadSample: The video cannot be opened.
    """
    end, rate = _find_end(clip)
    between = 1 / rate if frames == ALL_FRAMES else seconds_between_frames(frames)
    assert between is not None, "scenes are refused for clips"
    # The frame at the end of a clip belongs to the next one; a clip has at least one frame.
    count = max(1, math.ceil((end - clip.start) / between - TIME_TOLERANCE))
    return [clip.start + number * between for number in range(count)]


def read_frames_at(path: Path, times: Sequence[float]) -> list[bytes]:
    """Return the frames that a video shows at increasing times, as JPEG; the first one before its own time.

    Raises:
        BadSample: The video cannot be decoded, or has no frames.
    """
    frames: list[bytes] = []
    with open_video(path) as (container, stream):
        shown: Any = None
        for seconds, frame in _iter_frames_from(path, container, stream, times[0]):
            if shown is not None:
                due = sum(time < seconds - TIME_TOLERANCE for time in times[len(frames) :])
                frames += [encode_jpeg(shown, stream)] * due if due else []
                if len(frames) == len(times):
                    return frames
            shown = frame
        if shown is None:
            raise BadSample("video without frames", str(path), f"none from {times[0]:.3f} s on")
        return frames + [encode_jpeg(shown, stream)] * (len(times) - len(frames))


def _find_end(clip: VideoClip) -> tuple[float, float]:
    """Return the end of a clip in seconds, and the frames per second of its video."""
    with open_video(clip.path) as (container, stream):
        rate = float(stream.average_rate or 25)
        end = clip.end if clip.end is not None else stated_duration(container, stream)
        if not end:  # the container states no duration
            end = max((seconds for seconds, _ in _iter_frames_from(clip.path, container, stream, 0.0)), default=0.0)
    return end, rate


def _iter_frames_from(path: Path, container: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
    """Yield (seconds, frame) from the key frame before a time on; a container without an index is read from 0."""
    av = import_av()
    if start > 0:
        with suppress(av.FFmpegError):
            container.seek(to_timestamp(start, stream), stream=stream)
    last_seconds = 0.0
    try:
        for frame in container.decode(stream):
            last_seconds = seconds_of(frame, stream, last_seconds)
            yield last_seconds, frame
    except av.FFmpegError as error:
        raise BadSample("damaged video", str(path), str(error)) from error
