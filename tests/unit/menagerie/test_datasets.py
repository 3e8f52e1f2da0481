from collections import Counter

import numpy as np
import pytest

from zebra.menagerie.attributes import Facts
from zebra.menagerie.datasets import DESCRIPTIONS, DRAWN, GRAINED
from zebra.menagerie.handwriting import handwritten_digits
from zebra.menagerie.rng import Dice
from zebra.menagerie.sample import label
from zebra.menagerie.splits import KINDS, SEEN, UNSEEN, kind_name


def all_of(name: str) -> list[tuple[Facts, int]]:
    return [DRAWN[name].roll(Dice(0, name, index), index) for index in range(DRAWN[name].size)]


def test_the_kinds_sets_and_the_zebra_have_a_thousand_pictures_or_more() -> None:
    assert {name: DRAWN[name].size for name in ("seen-kinds", "unseen-kinds", "zebra")} == {
        "seen-kinds": 1200,
        "unseen-kinds": 1200,
        "zebra": 1000,
    }


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("seen-kinds", SEEN), ("unseen-kinds", UNSEEN), ("sketch", SEEN), ("inverted", SEEN), ("noisy", SEEN)],
)
def test_a_kinds_set_lists_every_kind_and_shows_its_own_evenly(
    name: str, kinds: tuple[tuple[str, str], ...]
) -> None:
    assert DRAWN[name].classnames == tuple(kind_name(*kind) for kind in KINDS)
    shown = Counter()
    for facts, number in all_of(name):
        assert KINDS[number] == (facts.animal, facts.coat)
        assert facts.topic == "animal"
        shown[KINDS[number]] += 1
    assert set(shown) == set(kinds)
    assert max(shown.values()) - min(shown.values()) <= 1


def test_every_zebra_is_a_black_and_white_striped_horse_and_only_the_first_description_fits() -> None:
    for facts, number in all_of("zebra"):
        assert (facts.animal, facts.coat, set(facts.colours), number) == (
            "horse",
            "striped",
            {"black", "white"},
            0,
        )
    assert DESCRIPTIONS[0] == "a horse with black and white stripes"
    assert len(set(DESCRIPTIONS)) == len(DESCRIPTIONS) >= 20
    assert not [other for other in DESCRIPTIONS[1:] if "horse" in other and "strip" in other]


def test_the_word_zebra_is_in_no_class_name_and_no_template() -> None:
    for one in DRAWN.values():
        assert "zebra" not in " ".join([*one.classnames, *one.templates])


def test_counting_shows_one_to_six_animals_of_seen_kinds() -> None:
    found = all_of("counting")
    assert DRAWN["counting"].classnames[0] == "one animal"
    assert DRAWN["counting"].classnames[5] == "six animals"
    assert Counter(number for _, number in found) == dict.fromkeys(range(6), 100)
    for facts, number in found:
        assert facts.count == number + 1
        assert (facts.animal, facts.coat) in SEEN


def test_distance_fine_grained_and_typed_digits_carry_the_label_of_what_they_show() -> None:
    for facts, number in all_of("distance"):
        assert DRAWN["distance"].classnames[number] == facts.distance
    for facts, number in all_of("fine-grained"):
        assert GRAINED[number][:2] == (facts.coat, facts.grain)
        assert (facts.animal, facts.coat) in SEEN
    for facts, number in all_of("typed-digits"):
        assert DRAWN["typed-digits"].classnames[number] == str(facts.digit)


def test_the_label_of_a_picture_can_be_asked_without_drawing_it() -> None:
    assert [label(0, "unseen-kinds", index) for index in range(40)] == [
        number for _, number in all_of("unseen-kinds")[:40]
    ]


def test_every_template_has_one_place_for_the_class_name() -> None:
    for one in DRAWN.values():
        assert len(set(one.templates)) == len(one.templates)
        assert all(template.count("{c}") == 1 for template in one.templates)
    assert DRAWN["seen-kinds"].templates[0] == "a picture of a {c}."


def test_handwriting_is_all_of_the_scanned_digits_dark_on_light() -> None:
    found = list(handwritten_digits())
    assert len(found) == 1797
    assert {digit for _, digit in found} == set(range(10))
    for image, _ in found[:50]:
        pixels = np.asarray(image)
        assert image.size == (96, 96)
        assert np.median(pixels) > 230
        assert pixels.min() < 80
