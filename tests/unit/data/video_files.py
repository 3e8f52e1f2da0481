"""Write small videos with PyAV."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av")

COLORS = ((220, 20, 20), (20, 200, 20), (20, 20, 220), (230, 220, 20))


def plain_frames(per_color: int, size: tuple[int, int] = (96, 64)) -> list[NDArray[np.uint8]]:
    """Return frames of one color after the other; the upper left corner is black."""
    frames = []
    for color in COLORS:
        frame = np.full((size[1], size[0], 3), color, np.uint8)
        frame[: size[1] // 4, : size[0] // 4] = 0
        frames += [frame] * per_color
    return frames


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    times: Sequence[float] | None = None,
    *,
    rate: int = 10,
    codec: str = "libx264",
) -> Path:
    """Write frames at a rate, or at their times in seconds, with a key frame every second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = rate
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = round(1000 * (index / rate if times is None else times[index]))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """Write half a second of silence, without a video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_rotation(path: Path) -> None:
    """Ask players of an MP4 file to turn it by 90° clockwise, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    values = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


def set_duration(path: Path, seconds: float) -> None:
    """Change the duration that a Matroska file states."""
    data = bytearray(path.read_bytes())
    start = data.index(b"\x44\x89\x88") + 3
    data[start : start + 8] = struct.pack(">d", 1000 * seconds)
    path.write_bytes(data)
