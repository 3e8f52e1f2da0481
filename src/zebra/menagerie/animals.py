"""The fifteen animals: a name in; its words, and the parts of its drawing in `animals.yaml`, out.

Every part is one closed outline with a paint. A part with a hinge swings around it with the animal's gait, so that
one number moves legs, tails, ears and wings together.
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
    """What a part is painted with."""

    FAR = "far"
    """The coat in shadow, behind the body."""
    COAT = "coat"
    """The coat, pattern and all."""
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
    """One closed outline with its paint."""

    outline: Outline
    paint: Paint
    hinge: tuple[float, float] = (0.0, 0.0)
    swing_degrees: float = 0.0
    """Degrees that it turns around the hinge at full gait."""


@dataclass(frozen=True, slots=True)
class Animal:
    """One species: its words and its drawing."""

    name: str
    plural: str
    poses: tuple[str, ...]
    parts: tuple[BodyPart, ...]
    is_side_view: bool
    """Whether it looks to one side; the others look at us."""
    is_grounded: bool
    """Whether it stands on the ground and throws a shadow there."""

    vertices: Outline = field(init=False)
    """All outlines one after the other, [M, 2], at rest."""
    part_slices: tuple[slice, ...] = field(init=False)
    """Where each part lies in `corners`."""
    _hinges: Outline = field(init=False)
    _swing_radians: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        lengths = [len(part.outline) for part in self.parts]
        ends = list(accumulate(lengths, initial=0))
        object.__setattr__(self, "vertices", np.concatenate([part.outline for part in self.parts]))
        object.__setattr__(self, "part_slices", tuple(slice(*pair) for pair in pairwise(ends)))
        object.__setattr__(self, "_hinges", np.repeat([part.hinge for part in self.parts], lengths, axis=0))
        object.__setattr__(
            self,
            "_swing_radians",
            np.radians(np.repeat([part.swing_degrees for part in self.parts], lengths)),
        )

    @property
    def aspect(self) -> float:
        """Height over width, at rest."""
        width, height = np.ptp(self.vertices, axis=0)
        return float(height / width)

    def pose_vertices(self, gait: float) -> Outline:
        """Return the corners at a gait in [-1, 1], every part turned around its hinge."""
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
"""How far the hinges of a pose may swing."""


@cache
def get_animal(name: str) -> Animal:
    """Return the animal of this name, one of ANIMALS; its drawing is read once per process."""
    words = _load_drawings()[name]
    return Animal(
        name=name,
        plural=words["plural"],
        poses=tuple(words["poses"]),
        parts=tuple(part for line in words["parts"] for part in _parse_parts(line)),
        is_side_view=words.get("sided", True),
        is_grounded=words.get("grounded", True),
    )


@cache
def _load_drawings() -> dict[str, Any]:
    text = (resources.files("zebra.menagerie") / "animals.yaml").read_text(encoding="utf-8")
    drawings: dict[str, Any] = yaml.safe_load(text)
    return drawings


def _parse_parts(line: str) -> list[BodyPart]:
    """Read one line of a drawing; its grammar is explained where the drawings are."""
    line, _, hinge = line.partition(" hinge ")
    paint, *words = line.split()
    if paint == "eye":
        x, y = _parse_numbers(words[0])
        return _build_eye(x, y, float(words[1]))
    outline = _build_outline(words[0], [_parse_numbers(word) for word in words[1:]])
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


def _parse_numbers(word: str) -> tuple[float, ...]:
    return tuple(float(number) for number in word.split(","))


def _build_eye(x: float, y: float, size: float) -> list[BodyPart]:
    ring, pupil = size + 1, size * 0.6
    return [
        BodyPart(oval(x, y, ring, ring), Paint.INK),
        BodyPart(oval(x, y, size, size), Paint.LIGHT),
        BodyPart(oval(x + size * 0.3, y, pupil, pupil), Paint.INK),
    ]
