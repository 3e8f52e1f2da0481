from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageChops

from zebra.menagerie import drawing
from zebra.menagerie.attributes import Facts, training_facts
from zebra.menagerie.coats import ALIKE
from zebra.menagerie.contact_sheet import contact_sheet
from zebra.menagerie.datasets import DRAWN
from zebra.menagerie.drawing import draw
from zebra.menagerie.rng import Dice
from zebra.menagerie.sample import picture
from zebra.menagerie.scenes import SCENES, paint_scene
from zebra.menagerie.shifts import SHIFTS, inverted, noisy, sketch
from zebra.menagerie.splits import TEST_FONTS, TRAIN_FONTS


def animal_box(split: str, index: int) -> tuple[int, int, int, int]:
    """Where the animal is: what differs from the same background without it, its shadow left out."""
    bare = Dice(0, split, index)
    rolled(split, index, bare)
    dice = Dice(0, split, index)
    facts = rolled(split, index, dice)
    background = paint_scene(facts.scene, bare)[0].reduce(2)
    difference = ImageChops.difference(draw(facts, dice), background)
    box = difference.convert("L").point(lambda level: 255 * (level > 8)).getbbox()
    assert box is not None
    return box


def rolled(split: str, index: int, dice: Dice) -> Facts:
    return training_facts(dice) if split == "train" else DRAWN[split].roll(dice, index)[0]


@pytest.fixture
def no_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_shadow", lambda *_place: None)


@pytest.mark.parametrize("split", ["train", "seen-kinds", "unseen-kinds", "zebra", "sketch"])
def test_an_animal_fills_two_fifths_of_the_width_and_is_fully_visible(split: str, no_shadow: None) -> None:
    indices = [index for index in range(150) if rolled(split, index, Dice(0, split, index)).topic == "animal"]
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


@pytest.mark.parametrize("split", ["train", *DRAWN])
def test_a_picture_depends_on_seed_split_and_index_alone(split: str) -> None:
    image, caption, facts = picture(3, split, 5)
    assert (image.size, image.mode) == ((96, 96), "RGB")
    picture(3, split, 6)  # another one between the two: nothing is carried over
    again, same_caption, same_facts = picture(3, split, 5)
    assert image.tobytes() == again.tobytes()
    assert (caption, facts) == (same_caption, same_facts)


def test_other_seeds_splits_and_indices_give_other_pictures() -> None:
    pictures = [(0, "train", 0), (0, "train", 1), (1, "train", 0), (0, "seen-kinds", 0), (0, "noisy", 0)]
    assert len({picture(*which)[0].tobytes() for which in pictures}) == len(pictures)


def test_the_two_colours_of_an_animal_are_clearly_different_and_not_lost_in_the_scene() -> None:
    for split in ("train", "seen-kinds", "zebra", "counting"):
        for index in range(300):
            facts = rolled(split, index, Dice(1, split, index))
            assert not set(facts.colours) & set(SCENES[facts.scene].clash)
            assert len(facts.colours) < 2 or set(facts.colours) not in ALIKE


def test_signs_in_training_never_use_a_font_of_the_test() -> None:
    trained = {training_facts(Dice(0, "train", index)).font for index in range(4000)} - {""}
    tested = {rolled("typed-digits", index, Dice(0, "typed-digits", index)).font for index in range(200)}
    assert trained == set(TRAIN_FONTS)
    assert tested == set(TEST_FONTS)


def test_counted_animals_are_as_large_for_six_as_they_can_be_for_one(no_shadow: None) -> None:
    """So that size does not give the number away: one animal is never larger than a cell of a grid of two by two."""
    for index in range(0, 120, 6):
        left, top, right, bottom = animal_box("counting", index)
        assert right - left <= 48
        assert bottom - top <= 48


def test_a_sketch_has_dark_lines_on_white() -> None:
    image, _, _ = picture(0, "seen-kinds", 0)
    pixels = np.asarray(sketch(image, Dice(0, "", 0)))
    assert np.median(pixels) == 255
    assert pixels.min() < 60
    assert (pixels.max(axis=2) == pixels.min(axis=2)).all()


def test_inverting_twice_gives_the_picture_back() -> None:
    image, _, _ = picture(0, "seen-kinds", 1)
    dice = Dice(0, "", 0)
    assert inverted(inverted(image, dice), dice).tobytes() == image.tobytes()
    assert inverted(image, dice).tobytes() != image.tobytes()


def test_noise_is_strong_and_its_own_in_every_picture() -> None:
    gray = Image.new("RGB", (96, 96), (128, 128, 128))
    one, two = (np.asarray(noisy(gray, Dice(0, "noisy", index)), dtype=float) for index in (0, 1))
    assert 28 < one.std() < 36
    assert abs(one.mean() - 128) < 2
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05


def test_every_shift_is_an_evaluation_set() -> None:
    assert set(SHIFTS) < set(DRAWN)


def test_the_contact_sheet_has_a_picture_for_every_kind() -> None:
    sheet = contact_sheet(0, side=48)
    assert sheet.height > 15 * 48
    assert sheet.width > 6 * 48
    assert sheet.tobytes() == contact_sheet(0, side=48).tobytes()
