"""Outlines of smooth shapes from a few control points, as float64 [N, 2]."""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Outline: TypeAlias = NDArray[np.float64]
"""Vertices of a polygon, x to the right and y down."""

VERTICES_PER_SEGMENT = 5
"""Vertices between two control points; smooth enough for images of 96 pixels."""
CAP_ANGLES = np.linspace(0, np.pi, 7)[1:-1]
"""Angles of the round end of a stroke."""


def polygon(*points: tuple[float, ...]) -> Outline:
    """Return the polygon through the points (x, y)."""
    return np.array(points, dtype=np.float64)


def blob(*points: tuple[float, ...]) -> Outline:
    """Return a smooth closed curve through the points (x, y)."""
    knots = np.array(points, dtype=np.float64)
    return _spline(np.concatenate([knots[-1:], knots, knots[:2]]))


def oval(x: float, y: float, rx: float, ry: float, num_vertices: int = 20) -> Outline:
    """Return an ellipse around (x, y)."""
    angles = np.linspace(0, 2 * np.pi, num_vertices, endpoint=False)
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def stroke(*points: tuple[float, ...]) -> Outline:
    """Return a smooth stroke with round ends through (x, y, radius)."""
    knots = np.array(points, dtype=np.float64)
    ends = (2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1])
    line = np.concatenate([_spline(np.concatenate(ends)), knots[-1:]])
    center, radius = line[:, :2], line[:, 2:]
    along = np.gradient(center, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.stack([along[:, 1], -along[:, 0]], axis=1)
    last = _cap(center[-1], radius[-1, 0], side[-1], along[-1])
    first = _cap(center[0], radius[0, 0], -side[0], -along[0])
    return np.concatenate([center + radius * side, last, (center - radius * side)[::-1], first])


def rotate(points: Outline, radians: float) -> Outline:
    """Rotate points [..., 2] around the origin, clockwise on the screen."""
    cos, sin = math.cos(radians), math.sin(radians)
    rotated: Outline = points @ np.array([[cos, sin], [-sin, cos]])
    return rotated


def _cap(center: Outline, radius: float, side: Outline, along: Outline) -> Outline:
    return np.array(center + radius * (np.outer(np.cos(CAP_ANGLES), side) + np.outer(np.sin(CAP_ANGLES), along)))


def _spline(knots: Outline) -> Outline:
    """Interpolate between the inner knots (Catmull–Rom); the first and the last give only the direction."""
    t = np.linspace(0, 1, VERTICES_PER_SEGMENT, endpoint=False)[None, :, None]
    a, b, c, d = (knots[start : len(knots) - 3 + start, None, :] for start in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.asarray(curve.reshape(-1, knots.shape[1]), dtype=np.float64)
