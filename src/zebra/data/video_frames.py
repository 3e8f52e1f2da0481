"""Decoding of the frames of a video file.

The only module that imports PyAV. Memory is bounded by the decoder's own frames: each frame is scaled down at once,
turned upright, and encoded as JPEG.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.errors import BadSample, MissingExtra

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv"),
    *(".3gp", ".ogv", ".vob"),
)
"""Lower-case suffixes of the files that are read as videos."""
VIDEO_TIME_SEPARATOR = " @ "
"""Between the path of a video and the time of a frame, in the name of the frame."""
FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,h264,hevc,m4v,mjpeg"
"""Containers that FFmpeg may open; playlists, which name other files, are not among them."""
SHORTER_SIDE = 512
"""Frames are scaled down to this; models see less."""
JPEG_QUALITY = 95
SEEK_SECONDS = 5.0
"""From this time between two frames on, the decoder jumps to the key frame before the next one."""
MIN_SCENE_SECONDS = 1.0
SCENE_SIDE, SCENE_DIFFERENCE = 32, 25.0
"""A frame begins a scene if it differs from the first frame of the last scene by this much: the mean absolute
difference of values in [0, 255], at this size."""
MIN_COMPLETE = 0.9
MIN_MISSING_SECONDS = 2.0
"""A video that ends before this fraction of its duration, and this long before its end, is reported."""
TIME_TOLERANCE = 1e-4
"""Time stamps are rounded to the time base of the stream."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A frame as an encoded image."""

    seconds: float
    """Time after the start of the video."""
    jpeg: bytes


def format_time(seconds: float) -> str:
    """Format a time in a video, to a thousandth of a second.

    >>> format_time(12.5), format_time(83), format_time(3 * 3600 + 62.25)
    ('0:12.5', '1:23', '3:01:02.25')
    """
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    fraction = f"{rest % 1000:03}".rstrip("0")
    text = f"{rest // 1000:02}" + (f".{fraction}" if fraction else "")
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def parse_time(text: str) -> float:
    """Return the seconds of a time that `format_time` wrote; ValueError for another text."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def read_duration(path: Path) -> float:
    """Return the duration in seconds that the container states; 0 if it states none or cannot be read."""
    try:
        with open_video(path) as (container, stream):
            return stated_duration(container, stream)
    except BadSample:
        return 0.0


def iter_frames(path: Path, seconds_between: float | None) -> Iterator[VideoFrame]:
    """Yield frames of a video in the order of time.

    Args:
        path: A video file.
        seconds_between: Time from one frame to the next; frames that a video with a variable rate shows for longer are
            yielded once. None yields the first frame of each scene.

    Raises:
        BadSample: no video stream, damaged video, no frames, or, after all frames that can be read, damaged frames or
            video ends early; `location` is the path.
        MissingExtra: PyAV is not installed.
    """
    av = import_av()
    selector = _SceneSelector() if seconds_between is None else _RateSelector(seconds_between)
    last_seconds, num_frames, errors = 0.0, 0, []
    with open_video(path) as (container, stream):
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                decoded = [] if packet is None else packet.decode()
            except av.FFmpegError as error:  # the next packet may be intact
                errors.append(error)
                continue
            if packet is None:
                break
            for frame in decoded:
                seconds = seconds_of(frame, stream, last_seconds)
                last_seconds, num_frames = max(last_seconds, seconds), num_frames + 1
                if not selector.wants(frame, seconds):
                    continue
                yield VideoFrame(round(seconds, 3), encode_jpeg(frame, stream))
                if seconds_between is not None and seconds_between >= SEEK_SECONDS:
                    with suppress(av.FFmpegError):  # a container without an index is read on
                        container.seek(to_timestamp(selector.next_seconds, stream), stream=stream)
                        packets = container.demux(stream)
                        break
        duration = stated_duration(container, stream)
    if not num_frames:
        reason = "damaged video" if errors else "video without frames"
        raise BadSample(reason, str(path), _explain(errors[0]) if errors else "")
    if errors:
        raise BadSample("damaged frames in a video", str(path), f"{len(errors)} packets, {_explain(errors[0])}")
    if last_seconds < MIN_COMPLETE * duration and duration - last_seconds > MIN_MISSING_SECONDS:
        detail = f"at {format_time(last_seconds)} of {format_time(duration)}"
        raise BadSample("video ends before its duration", str(path), detail)


def read_frame(path: Path, seconds: float) -> bytes | None:
    """Return the frame at a time that `iter_frames` yielded, as the same JPEG; None if there is none any more."""
    av = import_av()
    with open_video(path) as (container, stream), suppress(av.FFmpegError):
        container.seek(to_timestamp(seconds, stream), stream=stream)
        for frame in container.decode(stream):
            frame_seconds = round(seconds_of(frame, stream, 0.0), 3)
            if frame_seconds >= seconds:
                return encode_jpeg(frame, stream) if frame_seconds == seconds else None
    return None


def import_av() -> ModuleType:
    """Import PyAV; MissingExtra if it is not installed."""
    try:
        import av
        import av.logging
    except ImportError as error:
        raise MissingExtra("av", "reading videos", "video") from error
    av.logging.set_level(None)  # FFmpeg would write its complaints to standard error
    module: ModuleType = av
    return module


class _RateSelector:
    """Selects the first frame at or after each multiple of a time."""

    def __init__(self, seconds_between: float) -> None:
        self._seconds_between = seconds_between
        self.next_seconds = 0.0
        """Time of the next frame that is wanted."""

    def wants(self, _frame: Any, seconds: float) -> bool:
        if seconds < self.next_seconds - TIME_TOLERANCE:
            return False
        self.next_seconds = (math.floor(seconds / self._seconds_between + TIME_TOLERANCE) + 1) * self._seconds_between
        return True


class _SceneSelector:
    """Selects the first frame of each scene."""

    next_seconds = 0.0

    def __init__(self) -> None:
        self._first: NDArray[np.int16] | None = None

    def wants(self, frame: Any, seconds: float) -> bool:
        if seconds < self.next_seconds:
            return False
        small: NDArray[np.int16] = (
            frame.reformat(SCENE_SIDE, SCENE_SIDE, "rgb24", interpolation="AREA").to_ndarray().astype(np.int16)
        )
        if self._first is not None and float(np.abs(small - self._first).mean()) < SCENE_DIFFERENCE:
            return False
        self._first, self.next_seconds = small, seconds + MIN_SCENE_SECONDS
        return True


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield container and video stream of a file; BadSample if it is no video that can be opened."""
    av = import_av()
    try:
        container = av.open(str(path), options={"format_whitelist": FORMATS, "protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadSample("damaged video", str(path), _explain(error)) from error
    with container:
        if not container.streams.video:
            raise BadSample("no video stream", str(path), "the file holds sound only")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise BadSample("damaged video", str(path), "unknown codec; if other programs play it, convert it to H.264")
        stream.thread_type = "AUTO"
        yield container, stream


def stated_duration(container: Any, stream: Any) -> float:
    """Return the duration in seconds that the container states; 0 if it states none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else 0.0


def _start_seconds(stream: Any) -> float:
    return float(stream.start_time * stream.time_base) if stream.start_time else 0.0


def seconds_of(frame: Any, stream: Any, last_seconds: float) -> float:
    """Return the time of a frame after the start of the stream; one without a time stamp follows the last frame."""
    if frame.time is None:
        return last_seconds + 1 / float(stream.average_rate or 25)
    return max(0.0, float(frame.time) - _start_seconds(stream))


def to_timestamp(seconds: float, stream: Any) -> int:
    """Return a time as a time stamp of the stream."""
    return math.floor((seconds + _start_seconds(stream)) / float(stream.time_base))


def encode_jpeg(frame: Any, stream: Any) -> bytes:
    """Scale a frame down to square pixels, turn it upright and encode it."""
    width, height = frame.width * float(stream.sample_aspect_ratio or 1), frame.height
    factor = min(1.0, SHORTER_SIDE / min(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image: Image.Image = frame.reformat(*size, "rgb24", interpolation="BICUBIC").to_image()
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return buffer.getvalue()


def _explain(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
