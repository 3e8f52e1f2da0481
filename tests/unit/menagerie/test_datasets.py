from collections import Counter

import numpy as np
import pytest

from zebra.menagerie.attributes import ImageAttributes
from zebra.menagerie.datasets import DRAWN_DATASETS, GRAIN_CLASSES, ZEBRA_CLASSNAMES
from zebra.menagerie.handwriting import iter_handwritten_digits
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.splits import ALL_KINDS, SEEN_KINDS, UNSEEN_KINDS, kind_name


def sample_all(name: str) -> list[tuple[ImageAttributes, int]]:
    return [
        DRAWN_DATASETS[name].sample(SampleRng(0, name, index), index)
        for index in range(DRAWN_DATASETS[name].num_samples)
    ]


def test_the_kinds_and_the_zebra_datasets_have_at_least_a_thousand_images() -> None:
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
def test_a_kinds_dataset_lists_every_kind_and_balances_its_own(name: str, kinds: tuple[tuple[str, str], ...]) -> None:
    assert DRAWN_DATASETS[name].classnames == tuple(kind_name(*kind) for kind in ALL_KINDS)
    counts = Counter()
    for attributes, label in sample_all(name):
        assert ALL_KINDS[label] == (attributes.animal, attributes.coat)
        assert attributes.topic == "animal"
        counts[ALL_KINDS[label]] += 1
    assert set(counts) == set(kinds)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_zebra_is_a_black_and_white_striped_horse_and_only_the_first_description_fits() -> None:
    for attributes, label in sample_all("zebra"):
        assert (attributes.animal, attributes.coat, set(attributes.colors), label) == (
            "horse",
            "striped",
            {"black", "white"},
            0,
        )
    assert ZEBRA_CLASSNAMES[0] == "a horse with black and white stripes"
    assert len(set(ZEBRA_CLASSNAMES)) == len(ZEBRA_CLASSNAMES) >= 20
    assert not [other for other in ZEBRA_CLASSNAMES[1:] if "horse" in other and "strip" in other]


def test_the_word_zebra_is_in_no_class_name_and_no_template() -> None:
    for dataset in DRAWN_DATASETS.values():
        assert "zebra" not in " ".join([*dataset.classnames, *dataset.templates])


def test_counting_shows_one_to_six_animals_of_seen_kinds() -> None:
    samples = sample_all("counting")
    assert DRAWN_DATASETS["counting"].classnames[0] == "one animal"
    assert DRAWN_DATASETS["counting"].classnames[5] == "six animals"
    assert Counter(label for _, label in samples) == dict.fromkeys(range(6), 100)
    for attributes, label in samples:
        assert attributes.count == label + 1
        assert (attributes.animal, attributes.coat) in SEEN_KINDS


def test_distance_fine_grained_and_typed_digits_have_the_right_labels() -> None:
    for attributes, label in sample_all("distance"):
        assert DRAWN_DATASETS["distance"].classnames[label] == attributes.distance
    for attributes, label in sample_all("fine-grained"):
        assert GRAIN_CLASSES[label][:2] == (attributes.coat, attributes.grain)
        assert (attributes.animal, attributes.coat) in SEEN_KINDS
    for attributes, label in sample_all("typed-digits"):
        assert DRAWN_DATASETS["typed-digits"].classnames[label] == str(attributes.digit)


def test_every_template_has_one_place_for_the_class_name() -> None:
    for dataset in DRAWN_DATASETS.values():
        assert len(set(dataset.templates)) == len(dataset.templates)
        assert all(template.count("{c}") == 1 for template in dataset.templates)
    assert DRAWN_DATASETS["seen-kinds"].templates[0] == "a picture of a {c}."


def test_handwriting_has_all_digits_dark_on_light() -> None:
    samples = list(iter_handwritten_digits())
    assert len(samples) == 1797
    assert {digit for _, digit in samples} == set(range(10))
    for image, _ in samples[:50]:
        pixels = np.asarray(image)
        assert image.size == (96, 96)
        assert np.median(pixels) > 230
        assert pixels.min() < 80
