"""The six coats, the colors, and the polygons of coat patterns."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zebra.menagerie.rng import SampleRng
from zebra.menagerie.shapes import Outline, oval, rotate

Color: TypeAlias = tuple[int, int, int]

COATS = ("plain", "striped", "spotted", "checkered", "patched", "two-tone")

GRAINS = {
    "striped": ("thin", "medium", "thick"),
    "spotted": ("small", "medium", "large"),
    "checkered": ("small", "medium", "large"),
}
"""Grains of each coat; coats that are not listed have no grain."""

COLORS: dict[str, Color] = {
    "black": (38, 36, 42),
    "white": (246, 246, 242),
    "gray": (140, 142, 148),
    "brown": (124, 74, 38),
    "red": (208, 44, 44),
    "orange": (240, 138, 32),
    "yellow": (246, 212, 48),
    "green": (66, 156, 70),
    "blue": (52, 104, 204),
    "purple": (134, 70, 168),
    "pink": (246, 150, 184),
}

SIMILAR_COLORS = (
    {"black", "gray"},
    {"black", "brown"},
    {"black", "purple"},
    {"black", "blue"},
    {"gray", "brown"},
    {"gray", "green"},
    {"gray", "blue"},
    {"gray", "pink"},
    {"gray", "purple"},
    {"gray", "orange"},
    {"gray", "white"},
    {"gray", "red"},
    {"brown", "red"},
    {"brown", "green"},
    {"brown", "purple"},
    {"red", "orange"},
    {"red", "pink"},
    {"red", "purple"},
    {"red", "green"},
    {"orange", "yellow"},
    {"orange", "pink"},
    {"orange", "brown"},
    {"blue", "purple"},
    {"blue", "green"},
    {"white", "yellow"},
    {"white", "pink"},
    {"pink", "purple"},
    {"green", "purple"},
    {"orange", "green"},
    {"brown", "blue"},
)
"""Pairs that are too similar in color or lightness for a clearly visible pattern."""
COLOR_PAIRS = [(a, b) for a in COLORS for b in COLORS if a != b and {a, b} not in SIMILAR_COLORS]
"""All ordered pairs of clearly different colors."""


@dataclass(frozen=True, slots=True)
class BodyBox:
    """Bounding box of the body, in units of the drawing."""

    left: float
    top: float
    right: float
    bottom: float
    median_y: float
    """The y that has half of the body's area above it."""
    fill_ratio: float = 0.5
    """Fraction of the box that the body covers: small for a giraffe, large for an owl."""

    @property
    def size(self) -> float:
        """Return the side of the square with the area of the box; patterns scale with it."""
        return float(np.sqrt((self.right - self.left) * (self.bottom - self.top)))

    @property
    def radius(self) -> float:
        """Return the radius of the circle around the center that covers the box."""
        return 0.5 * float(np.hypot(self.right - self.left, self.bottom - self.top))

    @property
    def center(self) -> tuple[float, float]:
        """Return the center of the box."""
        return 0.5 * (self.left + self.right), 0.5 * (self.top + self.bottom)


def build_pattern(coat: str, grain: str, box: BodyBox, rng: SampleRng) -> Outline | None:
    """Return the polygons in the coat's second color, float64 [K, P, 2]; None for a plain coat.

    Args:
        coat: One of COATS.
        grain: One of GRAINS[coat], or "" for coats without a grain.
        box: The body that the polygons must cover; they may extend beyond it.
        rng: Randomizes the offset, rotation and shape of the pattern.
    """
    return _PATTERN_FUNCTIONS[coat](grain, box, rng) + box.center if coat in _PATTERN_FUNCTIONS else None


def _stripes(grain: str, box: BodyBox, rng: SampleRng) -> Outline:
    period = box.size * {"thin": 0.17, "medium": 0.23, "thick": 0.31}[grain] * rng.uniform(0.93, 1.07)
    heights = np.linspace(-box.radius, box.radius, 9)
    wave = 0.14 * period * np.sin(heights / box.size * rng.uniform(5, 8) + rng.uniform(0, 6))
    half = period * rng.uniform(0.23, 0.27)
    x, y = np.concatenate([wave - half, wave[::-1] + half]), np.concatenate([heights, heights[::-1]])
    positions = np.array([(x, 0.0) for x in _grid(box.radius, period, rng)])
    return _place_and_rotate(np.stack([x, y], axis=1), positions, rng.uniform(-14, 14))


def _spots(grain: str, box: BodyBox, rng: SampleRng) -> Outline:
    """Return round dots, spaced and slightly irregular so that they do not look like checks."""
    period = box.size * {"small": 0.23, "medium": 0.28, "large": 0.35}[grain] * rng.uniform(0.93, 1.07)
    radius = period * rng.uniform(0.25, 0.29)
    positions = _staggered_grid(box.radius, period, period * 0.87, rng)
    positions = positions + rng.generator.uniform(-0.13, 0.13, positions.shape) * period
    return _place_and_rotate(oval(0, 0, radius, radius, num_vertices=14), positions, rng.uniform(-20, 20))


def _checks(grain: str, box: BodyBox, rng: SampleRng) -> Outline:
    side = box.size * {"small": 0.095, "medium": 0.12, "large": 0.15}[grain] * rng.uniform(0.93, 1.07)
    square = np.array([(0.0, 0.0), (side, 0.0), (side, side), (0.0, side)])
    return _place_and_rotate(square, _staggered_grid(box.radius, 2 * side, side, rng), rng.uniform(-8, 8))


def _patches(_grain: str, box: BodyBox, rng: SampleRng) -> Outline:
    """Return large blobs, smaller on a thin body, which large ones would mostly miss."""
    size = box.size * math.sqrt(min(1.0, box.fill_ratio / 0.5))
    step = size * 0.6
    positions = _staggered_grid(box.radius, step, step, rng)
    positions = positions + rng.generator.uniform(-0.08, 0.08, positions.shape) * step
    angles = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    phases = rng.generator.uniform(0, 2 * np.pi, (3, len(positions), 1))
    radius = size * (
        0.23 + 0.03 * np.sin(phases[0]) + 0.045 * np.sin(2 * angles + phases[1]) + 0.03 * np.sin(3 * angles + phases[2])
    )
    patches = radius[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _place_and_rotate(patches, positions, rng.uniform(-30, 30))


def _lower_half(_grain: str, box: BodyBox, rng: SampleRng) -> Outline:
    x = np.linspace(-1.5 * box.radius, 1.5 * box.radius, 25)
    edge = 0.02 * box.size * np.sin(x / box.size * 12 + rng.uniform(0, 6)) + x * rng.uniform(-0.06, 0.06)
    upper = np.stack([x, edge + box.median_y - box.center[1]], axis=1)
    lower = np.array([(x[-1], 2 * box.radius), (x[0], 2 * box.radius)])
    return np.concatenate([upper, lower])[None]


_PATTERN_FUNCTIONS: dict[str, Callable[[str, BodyBox, SampleRng], Outline]] = {
    "striped": _stripes,
    "spotted": _spots,
    "checkered": _checks,
    "patched": _patches,
    "two-tone": _lower_half,
}


def _grid(radius: float, step: float, rng: SampleRng) -> Outline:
    """Return positions `step` apart that cover [-radius, radius], with a random offset."""
    return np.arange(int(2 * radius / step) + 2, dtype=np.float64) * step - (radius + step * rng.uniform(0, 1))


def _staggered_grid(radius: float, step_x: float, step_y: float, rng: SampleRng) -> Outline:
    """Return positions [K, 2] in rows, every second row shifted by half a step."""
    y = _grid(radius, step_y, rng)
    x = _grid(radius + step_x, step_x, rng)
    shift = np.arange(len(y)) % 2 * step_x / 2
    return np.stack([(x + shift[:, None]).ravel(), np.repeat(y, len(x))], axis=1)


def _place_and_rotate(shapes: Outline, positions: Outline, degrees: float) -> Outline:
    """Place one shape, or one shape per position, at each position and rotate all: [K, P, 2]."""
    return rotate(shapes + positions[:, None, :], math.radians(degrees))
