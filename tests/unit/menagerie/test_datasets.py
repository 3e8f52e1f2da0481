from collections import Counter

import numpy as np
import pytest

from zebra.menagerie.attributes import ImageAttributes
from zebra.menagerie.datasets import DRAWN_DATASETS, GRAIN_CLASSES, ZEBRA_CLASSNAMES
from zebra.menagerie.handwriting import iter_handwritten_digits
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.sample import get_label
from zebra.menagerie.splits import ALL_KINDS, SEEN_KINDS, UNSEEN_KINDS, kind_name


def all_of(name: str) -> list[tuple[ImageAttributes, int]]:
    return [
        DRAWN_DATASETS[name].sample(SampleRng(0, name, index), index)
        for index in range(DRAWN_DATASETS[name].num_samples)
    ]


def test_the_kinds_sets_and_the_zebra_have_a_thousand_pictures_or_more() -> None:
    assert {name: DRAWN_DATASETS[name].num_samples for name in ("seen-kinds", "unseen-kinds", "zebra")} == {
        "seen-kinds": 1200,
        "unseen-kinds": 1200,
        "zebra": 1000,
    }


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("seen-kinds", SEEN_KINDS),
        ("unseen-kinds", UNSEEN_KINDS),
        ("sketch", SEEN_KINDS),
        ("inverted", SEEN_KINDS),
        ("noisy", SEEN_KINDS),
    ],
)
def test_a_kinds_set_lists_every_kind_and_shows_its_own_evenly(
    name: str, kinds: tuple[tuple[str, str], ...]
) -> None:
    assert DRAWN_DATASETS[name].classnames == tuple(kind_name(*kind) for kind in ALL_KINDS)
    shown = Counter()
    for facts, number in all_of(name):
        assert ALL_KINDS[number] == (facts.animal, facts.coat)
        assert facts.topic == "animal"
        shown[ALL_KINDS[number]] += 1
    assert set(shown) == set(kinds)
    assert max(shown.values()) - min(shown.values()) <= 1


def test_every_zebra_is_a_black_and_white_striped_horse_and_only_the_first_description_fits() -> None:
    for facts, number in all_of("zebra"):
        assert (facts.animal, facts.coat, set(facts.colors), number) == (
            "horse",
            "striped",
            {"black", "white"},
            0,
        )
    assert ZEBRA_CLASSNAMES[0] == "a horse with black and white stripes"
    assert len(set(ZEBRA_CLASSNAMES)) == len(ZEBRA_CLASSNAMES) >= 20
    assert not [other for other in ZEBRA_CLASSNAMES[1:] if "horse" in other and "strip" in other]


def test_the_word_zebra_is_in_no_class_name_and_no_template() -> None:
    for one in DRAWN_DATASETS.values():
        assert "zebra" not in " ".join([*one.classnames, *one.templates])


def test_counting_shows_one_to_six_animals_of_seen_kinds() -> None:
    found = all_of("counting")
    assert DRAWN_DATASETS["counting"].classnames[0] == "one animal"
    assert DRAWN_DATASETS["counting"].classnames[5] == "six animals"
    assert Counter(number for _, number in found) == dict.fromkeys(range(6), 100)
    for facts, number in found:
        assert facts.count == number + 1
        assert (facts.animal, facts.coat) in SEEN_KINDS


def test_distance_fine_grained_and_typed_digits_carry_the_label_of_what_they_show() -> None:
    for facts, number in all_of("distance"):
        assert DRAWN_DATASETS["distance"].classnames[number] == facts.distance
    for facts, number in all_of("fine-grained"):
        assert GRAIN_CLASSES[number][:2] == (facts.coat, facts.grain)
        assert (facts.animal, facts.coat) in SEEN_KINDS
    for facts, number in all_of("typed-digits"):
        assert DRAWN_DATASETS["typed-digits"].classnames[number] == str(facts.digit)


def test_the_label_of_a_picture_can_be_asked_without_drawing_it() -> None:
    assert [get_label(0, "unseen-kinds", index) for index in range(40)] == [
        number for _, number in all_of("unseen-kinds")[:40]
    ]


def test_every_template_has_one_place_for_the_class_name() -> None:
    for one in DRAWN_DATASETS.values():
        assert len(set(one.templates)) == len(one.templates)
        assert all(template.count("{c}") == 1 for template in one.templates)
    assert DRAWN_DATASETS["seen-kinds"].templates[0] == "a picture of a {c}."


def test_handwriting_is_all_of_the_scanned_digits_dark_on_light() -> None:
    found = list(iter_handwritten_digits())
    assert len(found) == 1797
    assert {digit for _, digit in found} == set(range(10))
    for image, _ in found[:50]:
        pixels = np.asarray(image)
        assert image.size == (96, 96)
        assert np.median(pixels) > 230
        assert pixels.min() < 80
