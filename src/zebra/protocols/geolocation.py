"""Places of images from nearest neighbors in a gallery (CLIP Table 17)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zebra.errors import DataError
from zebra.protocols.metrics import proportion
from zebra.values import Score

DISTANCES_KM = (1, 25, 200, 750, 2500)
"""A street, a city, a region, a country and a continent, as in Hays and Efros 2008."""
EARTH_RADIUS_KM = 6371.0088
ROWS_PER_BLOCK = 256


def find_nearest(image_NE: NDArray[np.float32], gallery_GE: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the most similar image [N] of the gallery; memory grows with the gallery, not with its product with N.

    Raises:
        DataError: There are no images in one of the two, or a vector is NaN.
    """
    if not len(image_NE) or not len(gallery_GE):
        raise DataError(f"{len(image_NE)} images and a gallery of {len(gallery_GE)}; both need at least one")
    if np.isnan(image_NE).any() or np.isnan(gallery_GE).any():
        raise DataError("a vector is NaN. The model has diverged.")
    starts = range(0, len(image_NE), ROWS_PER_BLOCK)
    return np.concatenate([(image_NE[s : s + ROWS_PER_BLOCK] @ gallery_GE.T).argmax(axis=1) for s in starts])


def distances_km(first_N2: NDArray[np.float64], second_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the great-circle distances [N] between places, as latitude and longitude in degrees.

    >>> distances_km(np.array([[0.0, 0.0]]), np.array([[0.0, 180.0]])).round().tolist()
    [20015.0]
    """
    latitude_N, longitude_N = np.radians(first_N2).T
    other_latitude_N, other_longitude_N = np.radians(second_N2).T
    half_chord_N = (
        np.sin((other_latitude_N - latitude_N) / 2) ** 2
        + np.cos(latitude_N) * np.cos(other_latitude_N) * np.sin((other_longitude_N - longitude_N) / 2) ** 2
    )
    distance_N: NDArray[np.float64] = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half_chord_N, 0, 1)))
    return distance_N


def score_distances(distance_N: NDArray[np.float64]) -> Mapping[str, Score]:
    """Return within_1km, within_25km, …: the fractions of images whose place is at most so far away."""
    return {
        f"within_{limit}km": proportion(int((distance_N <= limit).sum()), len(distance_N)) for limit in DISTANCES_KM
    }
