"""Random crops keep the promised share of the picture, and chance comes from the generator alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.images.augment import random_crop

RAMP = Image.fromarray(
    np.stack(
        [
            np.tile(np.arange(0, 240), (240, 1)),
            np.tile(np.arange(0, 240)[:, None], (1, 240)),
            np.zeros((240, 240)),
        ],
        axis=-1,
    ).astype(np.uint8)
)
"""Red is the column and green the row, so that a crop tells where it was cut."""


def extent(crop: np.ndarray) -> tuple[float, float]:
    """Width and height that a crop of RAMP covers, read from its colours."""
    size = crop.shape[1]
    reach = crop.reshape(3, -1).max(axis=1).astype(float) - crop.reshape(3, -1).min(axis=1)
    return tuple(reach[:2] * size / (size - 1))


@given(seed=st.integers(0, 10_000), min_area=st.sampled_from([0.25, 0.5, 0.9]))
def test_area_and_aspect_stay_in_their_ranges(seed: int, min_area: float) -> None:
    width, height = extent(random_crop(RAMP, 60, np.random.default_rng(seed), min_area))
    assert min_area * 240 * 240 * 0.93 <= width * height
    assert 0.73 <= width / height <= 1.37


@given(seed=st.integers(0, 100), width=st.integers(8, 160), height=st.integers(8, 160))
def test_any_picture_gives_the_size_asked_for(seed: int, width: int, height: int) -> None:
    crop = random_crop(Image.new("RGB", (width, height)), 24, np.random.default_rng(seed), 0.9)
    assert crop.shape == (3, 24, 24)
    assert crop.dtype == np.uint8
    assert crop.flags.writeable


def test_equal_generators_give_equal_crops_and_others_differ() -> None:
    crops = [random_crop(RAMP, 60, np.random.default_rng(seed), 0.5) for seed in (1, 1, 2)]
    assert np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])


def test_a_share_of_one_takes_the_centre_square() -> None:
    crop = random_crop(RAMP.crop((0, 0, 200, 100)), 100, np.random.default_rng(0), 1.0)
    assert crop[0, 0].tolist() == list(range(50, 150))
    assert crop[1, :, 0].tolist() == list(range(100))


@pytest.mark.parametrize("size", [(240, 24), (24, 240)])
def test_an_elongated_picture_gives_its_centre(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    middle = Image.new("RGB", (24, 24), "blue")
    image.paste(middle, ((size[0] - 24) // 2, (size[1] - 24) // 2))
    crop = random_crop(image, 24, np.random.default_rng(0), 0.9)
    assert tuple(crop[:, 12, 12]) == (0, 0, 255)
    assert (crop[2] > 128).mean() == pytest.approx(
        3 / 4, abs=0.05
    )  # 24 of 32 pixels: the ratio is cut to 4:3
