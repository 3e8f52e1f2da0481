"""The fifteen animals: names, poses and vector drawings, read from `animals.yaml`.

Every body part is a closed outline with a paint. A part with a hinge rotates around it with the animal's gait, so one
number moves legs, tails, ears and wings together.
"""

from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib import resources
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from zebra.menagerie.shapes import Outline, blob, oval, polygon, stroke

ANIMALS = (
    "horse", "elephant", "giraffe", "camel", "pig", "cat", "rabbit", "turtle",
    "fish", "duck", "crocodile", "snail", "whale", "owl", "butterfly",
)  # fmt: skip
"""The names of all animals."""


class Paint(Enum):
    """Fill of a body part."""

    FAR = "far"
    """The coat in shadow, behind the body."""
    COAT = "coat"
    """The coat with its pattern."""
    DEEP = "deep"
    """A darker tone of the coat: manes, folds, wings."""
    INK = "ink"
    """Almost black."""
    LIGHT = "light"
    """Almost white."""
    WARM = "warm"
    """Orange: beaks and feet."""


@dataclass(frozen=True, slots=True)
class BodyPart:
    """A closed outline with its paint."""

    outline: Outline
    paint: Paint
    hinge: tuple[float, float] = (0.0, 0.0)
    swing_degrees: float = 0.0
    """Rotation around the hinge at full gait, in degrees."""


@dataclass(frozen=True, slots=True)
class Animal:
    """One species: name, poses and drawing."""

    name: str
    plural: str
    poses: tuple[str, ...]
    parts: tuple[BodyPart, ...]
    is_side_view: bool
    """Whether it faces sideways; otherwise it faces the viewer."""
    is_grounded: bool
    """Whether it stands on the ground and casts a shadow."""

    vertices: Outline = field(init=False)
    """All outlines concatenated, [M, 2], at rest."""
    part_slices: tuple[slice, ...] = field(init=False)
    """Slice of each part in `vertices`."""
    _hinges: Outline = field(init=False)
    _swing_radians: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        lengths = [len(part.outline) for part in self.parts]
        ends = list(accumulate(lengths, initial=0))
        object.__setattr__(self, "vertices", np.concatenate([part.outline for part in self.parts]))
        object.__setattr__(self, "part_slices", tuple(slice(*pair) for pair in pairwise(ends)))
        object.__setattr__(self, "_hinges", np.repeat([part.hinge for part in self.parts], lengths, axis=0))
        object.__setattr__(
            self, "_swing_radians", np.radians(np.repeat([part.swing_degrees for part in self.parts], lengths))
        )

    @property
    def aspect(self) -> float:
        """Return height over width, at rest."""
        width, height = np.ptp(self.vertices, axis=0)
        return float(height / width)

    def pose_vertices(self, gait: float) -> Outline:
        """Return the vertices [M, 2] at a gait in [-1, 1], every part rotated around its hinge."""
        cos, sin = np.cos(self._swing_radians * gait), np.sin(self._swing_radians * gait)
        x, y = (self.vertices - self._hinges).T
        return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1) + self._hinges


GAIT_RANGES = {
    "standing": (0.0, 0.15),
    "walking": (0.45, 0.6),
    "running": (0.9, 1.0),
    "sitting": (0.0, 1.0),
    "swimming": (0.0, 1.0),
    "crawling": (0.0, 1.0),
    "flying": (0.0, 1.0),
}
"""Range of the absolute gait in each pose."""


@cache
def get_animal(name: str) -> Animal:
    """Return the animal of this name, one of ANIMALS; cached per process."""
    drawing = load_yaml("animals.yaml")[name]
    return Animal(
        name=name,
        plural=drawing["plural"],
        poses=tuple(drawing["poses"]),
        parts=tuple(part for line in drawing["parts"] for part in _parse_parts(line)),
        is_side_view=drawing.get("sided", True),
        is_grounded=drawing.get("grounded", True),
    )


@cache
def load_yaml(name: str) -> dict[str, Any]:
    """Read a file of this package; cached per process."""
    text = (resources.files("zebra.menagerie") / name).read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def _parse_parts(line: str) -> list[BodyPart]:
    """Parse one line of a drawing; the head of `animals.yaml` explains the grammar."""
    line, _, hinge = line.partition(" hinge ")
    paint, *fields = line.split()
    if paint == "eye":
        x, y = _parse_numbers(fields[0])
        return _build_eye(x, y, float(fields[1]))
    outline = _build_outline(fields[0], [_parse_numbers(field) for field in fields[1:]])
    if not hinge:
        return [BodyPart(outline, Paint(paint))]
    point, degrees = hinge.split()
    x, y = _parse_numbers(point)
    return [BodyPart(outline, Paint(paint), (x, y), float(degrees))]


def _build_outline(shape: str, points: list[tuple[float, ...]]) -> Outline:
    if shape == "oval":
        (x, y), (rx, ry) = points
        return oval(x, y, rx, ry)
    return {"blob": blob, "stroke": stroke, "polygon": polygon}[shape](*points)


def _parse_numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


def _build_eye(x: float, y: float, size: float) -> list[BodyPart]:
    ring, pupil = size + 1, size * 0.6
    return [
        BodyPart(oval(x, y, ring, ring), Paint.INK),
        BodyPart(oval(x, y, size, size), Paint.LIGHT),
        BodyPart(oval(x + size * 0.3, y, pupil, pupil), Paint.INK),
    ]
