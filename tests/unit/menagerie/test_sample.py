from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageChops

from zebra.menagerie import drawing
from zebra.menagerie.attributes import ImageAttributes, sample_training_attributes
from zebra.menagerie.coats import SIMILAR_COLORS
from zebra.menagerie.contact_sheet import draw_contact_sheet
from zebra.menagerie.datasets import DRAWN_DATASETS
from zebra.menagerie.drawing import draw_image
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.sample import generate_sample
from zebra.menagerie.scenes import SCENES, draw_background
from zebra.menagerie.shifts import DISTRIBUTION_SHIFTS, add_noise, invert_colors, to_sketch
from zebra.menagerie.splits import TEST_FONTS, TRAIN_FONTS


def animal_box(split: str, index: int) -> tuple[int, int, int, int]:
    """Return the box of the animal: the difference to the same background without it."""
    background_rng = SampleRng(0, split, index)
    sample_attributes(split, index, background_rng)
    rng = SampleRng(0, split, index)
    attributes = sample_attributes(split, index, rng)
    background = draw_background(attributes.scene, background_rng)[0].reduce(2)
    difference = ImageChops.difference(draw_image(attributes, rng), background)
    box = difference.convert("L").point(lambda level: 255 * (level > 8)).getbbox()
    assert box is not None
    return box


def sample_attributes(split: str, index: int, rng: SampleRng) -> ImageAttributes:
    return sample_training_attributes(rng) if split == "train" else DRAWN_DATASETS[split].sample(rng, index)[0]


@pytest.fixture
def no_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_draw_shadow", lambda *_args: None)


@pytest.mark.parametrize("split", ["train", "seen-kinds", "unseen-kinds", "zebra", "sketch"])
def test_an_animal_fills_two_fifths_of_the_width_and_is_fully_visible(split: str, no_shadow: None) -> None:
    indices = [
        index for index in range(150) if sample_attributes(split, index, SampleRng(0, split, index)).topic == "animal"
    ]
    for index in indices:
        left, top, right, bottom = animal_box(split, index)
        assert right - left >= 0.4 * 96
        assert left > 0
        assert top > 0
        assert right < 96
        assert bottom < 96


def test_each_step_of_distance_is_smaller_than_the_one_before(no_shadow: None) -> None:
    sides: list[list[int]] = [[], [], [], []]
    for index in range(80):
        left, top, right, bottom = animal_box("distance", index)
        sides[index % 4].append(max(right - left, bottom - top))
    for near, far in pairwise(sides):
        assert min(near) > max(far)


@pytest.mark.parametrize("split", ["train", *DRAWN_DATASETS])
def test_an_image_depends_on_seed_split_and_index_alone(split: str) -> None:
    image, *rest = generate_sample(3, split, 5)
    assert (image.size, image.mode) == ((96, 96), "RGB")
    generate_sample(3, split, 6)  # no state carries over
    again, *same_rest = generate_sample(3, split, 5)
    assert image.tobytes() == again.tobytes()
    assert rest == same_rest


def test_other_seeds_splits_and_indices_give_other_images() -> None:
    samples = [(0, "train", 0), (0, "train", 1), (1, "train", 0), (0, "seen-kinds", 0), (0, "noisy", 0)]
    assert len({generate_sample(*which)[0].tobytes() for which in samples}) == len(samples)


def test_the_two_colors_of_an_animal_differ_clearly_and_are_visible_in_the_scene() -> None:
    for split in ("train", "seen-kinds", "zebra", "counting"):
        for index in range(300):
            attributes = sample_attributes(split, index, SampleRng(1, split, index))
            assert not set(attributes.colors) & set(SCENES[attributes.scene].clashing_colors)
            assert len(attributes.colors) < 2 or set(attributes.colors) not in SIMILAR_COLORS


def test_signs_in_training_never_use_a_test_font() -> None:
    trained = {sample_training_attributes(SampleRng(0, "train", index)).font for index in range(4000)} - {""}
    tested = {
        sample_attributes("typed-digits", index, SampleRng(0, "typed-digits", index)).font for index in range(200)
    }
    assert trained == set(TRAIN_FONTS)
    assert tested == set(TEST_FONTS)


def test_counted_animals_are_never_larger_than_a_grid_cell(no_shadow: None) -> None:
    """Size must not reveal the number, so one animal is never larger than a cell of a 2 × 2 grid."""
    for index in range(0, 120, 6):
        left, top, right, bottom = animal_box("counting", index)
        assert right - left <= 48
        assert bottom - top <= 48


def test_a_sketch_has_dark_lines_on_white() -> None:
    image, *_ = generate_sample(0, "seen-kinds", 0)
    pixels = np.asarray(to_sketch(image, SampleRng(0, "", 0)))
    assert np.median(pixels) == 255
    assert pixels.min() < 60
    assert (pixels.max(axis=2) == pixels.min(axis=2)).all()


def test_inverting_twice_restores_the_image() -> None:
    image, *_ = generate_sample(0, "seen-kinds", 1)
    rng = SampleRng(0, "", 0)
    assert invert_colors(invert_colors(image, rng), rng).tobytes() == image.tobytes()
    assert invert_colors(image, rng).tobytes() != image.tobytes()


def test_noise_is_strong_and_differs_between_images() -> None:
    gray = Image.new("RGB", (96, 96), (128, 128, 128))
    one, two = (np.asarray(add_noise(gray, SampleRng(0, "noisy", index)), dtype=float) for index in (0, 1))
    assert 28 < one.std() < 36
    assert abs(one.mean() - 128) < 2
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05


def test_every_shift_is_an_evaluation_dataset() -> None:
    assert set(DISTRIBUTION_SHIFTS) < set(DRAWN_DATASETS)


def test_the_contact_sheet_has_an_image_for_every_kind() -> None:
    sheet = draw_contact_sheet()
    assert sheet.height > 15 * 96
    assert sheet.width > 6 * 96
    assert sheet.tobytes() == draw_contact_sheet().tobytes()
