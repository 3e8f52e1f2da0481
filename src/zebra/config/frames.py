"""Which frames of a video are taken: at a rate, or at changes of scene."""

import re

from zebra.errors import ConfigError

SCENES = "scenes"
MIDDLE_FRAME, ALL_FRAMES = "middle", "all"
"""Frames of a clip that is one sample, beside a rate: the middle one, or all."""
_UNIT_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)?(s|min|h)")
MAX_FRAMES_PER_SECOND = 240.0


def seconds_between_frames(frames: str) -> float | None:
    """Return the time between two frames in seconds; None for a frame per scene.

    >>> seconds_between_frames("2/s"), seconds_between_frames("1/10s"), seconds_between_frames("1/min")
    (0.5, 10.0, 60.0)

    Raises:
        ConfigError: The text is neither a rate nor "scenes".
    """
    if frames == SCENES:
        return None
    match = _RATE.fullmatch(frames.replace(" ", ""))
    number, length = (float(match[1]), float(match[2] or 1) * _UNIT_SECONDS[match[3]]) if match else (0.0, 0.0)
    if not number or not length or number > MAX_FRAMES_PER_SECOND * length:
        raise ConfigError(
            f"frames is {frames!r}; write a rate such as 1/s, 2/s, 1/10s or 1/min, or {SCENES} for one frame per scene"
        )
    return length / number


def validate_clip_frames(frames: str) -> None:
    """Raise ConfigError if the frames of a clip are neither middle, all nor a rate."""
    if frames in (MIDDLE_FRAME, ALL_FRAMES):
        return
    if seconds_between_frames(frames) is None:
        raise ConfigError(f"frames is {frames!r}; for clips write {MIDDLE_FRAME}, {ALL_FRAMES} or a rate such as 1/s")
