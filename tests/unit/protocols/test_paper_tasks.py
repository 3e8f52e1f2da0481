"""Tests of pm-k accuracy, lexicons and geolocation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.errors import DataError
from zebra.protocols.frame_sets import score_frame_sets
from zebra.protocols.geolocation import distances_km, find_nearest, score_distances
from zebra.protocols.lexicon import choose_words
from zebra.protocols.metrics import proportion


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=30))
def test_a_set_counts_if_its_anchor_and_if_all_its_frames_are_right(sets):
    correct_M = np.array([value for frames in sets for value in frames])
    ends = np.cumsum([len(frames) for frames in sets])
    positions = [range(end - len(frames), end) for frames, end in zip(sets, ends, strict=True)]
    scores = score_frame_sets(correct_M, positions)
    n = len(sets)
    assert scores["pm0"] == proportion(sum(frames[0] for frames in sets), n)
    assert scores["pm10"] == proportion(sum(map(all, sets)), n)
    mean = scores["pm0_pm10"]
    assert mean.value == pytest.approx((scores["pm0"].value + scores["pm10"].value) / 2)
    assert (mean.low <= mean.value <= mean.high, mean.n) == (True, n)


def test_empty_frame_sets_are_refused():
    for sets in ([], [[0], []]):
        with pytest.raises(DataError, match="at least one frame"):
            score_frame_sets(np.ones(1, bool), sets)


def test_a_word_is_chosen_from_the_lexicon_of_its_image():
    image_NE, word_ME = np.eye(3, dtype=np.float32), np.eye(4, 3, dtype=np.float32)
    lexicons = [np.array([0, 1]), np.array([2, 3]), np.array([3, 1, 2])]
    assert choose_words(image_NE, word_ME, lexicons).tolist() == [0, 2, 2]
    with pytest.raises(DataError, match="3 images need as many lexicons"):
        choose_words(image_NE, word_ME, lexicons[:2])
    with pytest.raises(DataError, match="NaN"):
        choose_words(image_NE * np.nan, word_ME, lexicons)


PARIS, LONDON, SYDNEY, SUVA, HONOLULU = (
    (48.8566, 2.3522),
    (51.5074, -0.1278),
    (-33.8688, 151.2093),
    (-18.14, 178.44),
    (21.31, -157.86),
)


def test_distances_are_those_on_the_great_circle():
    """The spherical law of cosines, which is another formula; across the date line too."""
    first, second = np.array([PARIS, PARIS, SUVA]), np.array([LONDON, SYDNEY, HONOLULU])
    (a, b), (c, d) = np.radians(first).T, np.radians(second).T
    cosine_N = np.sin(a) * np.sin(c) + np.cos(a) * np.cos(c) * np.cos(b - d)
    assert distances_km(first, second) == pytest.approx(6371.0088 * np.arccos(cosine_N), rel=1e-9)
    assert distances_km(first[:1], second[:1]) == pytest.approx([343.6], abs=0.5)
    assert distances_km(first, first) == pytest.approx([0, 0, 0])


def test_distances_are_counted_within_the_limits_of_the_paper():
    scores = score_distances(np.array([0.5, 1.0, 24, 26, 3000]))
    values = {name: score.value for name, score in scores.items()}
    assert values == {
        "within_1km": 0.4,
        "within_25km": 0.6,
        "within_200km": 0.8,
        "within_750km": 0.8,
        "within_2500km": 0.8,
    }


def test_the_nearest_neighbor_is_the_most_similar_image_in_blocks():
    rng = np.random.default_rng(0)
    image_NE, gallery_GE = (rng.normal(size=(n, 8)).astype(np.float32) for n in (600, 50))
    assert find_nearest(image_NE, gallery_GE).tolist() == (image_NE @ gallery_GE.T).argmax(axis=1).tolist()
    with pytest.raises(DataError, match="a gallery of 0"):
        find_nearest(image_NE, gallery_GE[:0])
