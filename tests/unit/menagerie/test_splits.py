from pathlib import Path

import matplotlib as mpl

from zebra.menagerie.animals import ANIMALS
from zebra.menagerie.coats import COATS
from zebra.menagerie.drawing import load_font
from zebra.menagerie.splits import (
    ALL_KINDS,
    HELD_OUT_ANIMALS,
    SEEN_KINDS,
    TEST_FONTS,
    TRAIN_FONTS,
    UNSEEN_KINDS,
    kind_name,
)


def test_exactly_a_fifth_of_the_kinds_is_held_out_evenly_over_the_coats() -> None:
    assert len(ALL_KINDS) == len(ANIMALS) * len(COATS) >= 72
    assert len(UNSEEN_KINDS) * 5 == len(ALL_KINDS)
    assert set(SEEN_KINDS) | set(UNSEEN_KINDS) == set(ALL_KINDS)
    assert not set(SEEN_KINDS) & set(UNSEEN_KINDS)
    assert {len(animals) for animals in HELD_OUT_ANIMALS.values()} == {3}


def test_the_striped_horse_is_held_out() -> None:
    assert ("horse", "striped") in UNSEEN_KINDS


def test_every_animal_has_an_unseen_kind_and_at_least_four_seen_coats() -> None:
    for name in ANIMALS:
        unseen = [coat for animal, coat in UNSEEN_KINDS if animal == name]
        assert 1 <= len(unseen) <= len(COATS) - 4


def test_the_article_a_fits_every_class_name() -> None:
    assert all(kind_name(*kind)[0] not in "aeiou" for kind in ALL_KINDS)
    assert len({kind_name(*kind) for kind in ALL_KINDS}) == len(ALL_KINDS)


def test_training_and_test_fonts_are_different_files_that_exist() -> None:
    font_dir = Path(mpl.get_data_path()) / "fonts" / "ttf"
    assert not set(TRAIN_FONTS) & set(TEST_FONTS)
    for file in (*TRAIN_FONTS, *TEST_FONTS):
        assert (font_dir / file).is_file()


def test_every_font_has_ten_distinct_digits() -> None:
    for file in (*TRAIN_FONTS, *TEST_FONTS):
        shapes = {bytes(load_font(file, 40).getmask(str(digit))) for digit in range(10)}
        assert len(shapes) == 10
