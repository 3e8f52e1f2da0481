"""The wild menagerie: shares of noise, copies behind their originals, and pairs that are what the truth says."""

import io

import numpy as np
import pytest
from PIL import Image

NUM_PAIRS = 800


@pytest.fixture(scope="module")
def wild(script):
    return script("wild_menagerie")


@pytest.fixture(scope="module")
def plan(wild):
    return wild.plan_pool(NUM_PAIRS, seed=3)


def positions(plan, noise: str) -> list[int]:
    found = np.flatnonzero(plan.noise_N == noise).tolist()
    assert found, noise
    return found


def open_image(pair) -> Image.Image:
    return Image.open(io.BytesIO(pair.image))


def test_each_noise_has_its_share(wild, plan):
    counts = {noise: int((plan.noise_N == noise).sum()) for noise in wild.SHARES}
    assert sum(wild.SHARES.values()) == pytest.approx(1)
    assert counts == {noise: round(share * NUM_PAIRS) for noise, share in wild.SHARES.items()}


def test_originals_of_copies_are_clean_and_come_first(wild, plan):
    is_copy_N = np.isin(plan.noise_N, (wild.EXACT_COPY, wild.NEAR_COPY))
    original_C = plan.original_N[is_copy_N]
    assert is_copy_N.any()
    assert (original_C < np.flatnonzero(is_copy_N)).all()
    assert (plan.noise_N[original_C] == wild.CLEAN).all()
    assert (plan.original_N[~is_copy_N] == np.flatnonzero(~is_copy_N)).all()


def test_a_pair_depends_on_seed_and_position_only(wild, plan):
    position = positions(plan, wild.NEAR_COPY)[0]
    assert wild.make_pair(plan, position, 3) == wild.make_pair(plan, position, 3)
    assert wild.make_pair(plan, position, 3) != wild.make_pair(plan, position, 4)


def test_exact_copies_have_the_bytes_of_their_original_and_near_copies_do_not(wild, plan):
    for noise, is_equal in ((wild.EXACT_COPY, True), (wild.NEAR_COPY, False)):
        for position in positions(plan, noise)[:5]:
            original = wild.make_pair(plan, int(plan.original_N[position]), 3)
            assert (wild.make_pair(plan, position, 3).image == original.image) is is_equal


def test_some_copies_have_another_true_caption(wild, plan):
    copies = positions(plan, wild.EXACT_COPY) + positions(plan, wild.NEAR_COPY)
    pairs = [(wild.make_pair(plan, n, 3), wild.make_pair(plan, int(plan.original_N[n]), 3)) for n in copies[:30]]
    assert all(copy.attributes == original.attributes for copy, original in pairs)
    assert {copy.caption == original.caption for copy, original in pairs} == {True, False}


def test_a_wrong_caption_is_not_that_of_the_image(wild, plan):
    captions = [
        (wild.make_pair(plan, n, 3), wild._write_caption(wild.make_pair(plan, n, 3).attributes, n, 3))
        for n in positions(plan, wild.WRONG_CAPTION)[:20]
    ]
    assert all(pair.caption != true_caption for pair, true_caption in captions)


def test_boilerplate_comes_from_a_list_of_300(wild, plan):
    captions = wild.list_boilerplate(3)
    assert len(set(captions)) == len(captions) == 300
    assert all(wild.make_pair(plan, n, 3).caption in captions for n in positions(plan, wild.BOILERPLATE)[:20])


def test_captions_in_other_languages_name_the_animal_in_that_language(wild, plan):
    languages = wild._load_captions()["languages"]
    for position in positions(plan, wild.OTHER_LANGUAGE):
        pair = wild.make_pair(plan, position, 3)
        names = [
            words["animals"].get(pair.attributes.animal, str(pair.attributes.digit)) for words in languages.values()
        ]
        assert any(name in pair.caption for name in names), pair.caption


def test_every_language_has_a_word_for_every_animal_and_coat(wild):
    from zebra.menagerie.animals import ANIMALS
    from zebra.menagerie.coats import COATS

    for words in wild._load_captions()["languages"].values():
        assert set(words["animals"]) == set(ANIMALS)
        assert set(words["coats"]) == set(COATS)
        assert all("{animal}" in frame and "{coat}" in frame for frame in words["frames"])


def test_bad_images_are_tiny_thin_of_one_color_or_the_placeholder(wild, plan):
    def images(noise: str) -> list[Image.Image]:
        return [open_image(wild.make_pair(plan, n, 3)) for n in positions(plan, noise)]

    assert all(max(image.size) <= 32 for image in images(wild.TINY))
    assert all(max(image.size) == 6 * min(image.size) for image in images(wild.THIN))
    assert all(np.ptp(np.asarray(image), axis=(0, 1)).max() <= 2 for image in images(wild.ONE_COLOR))
    assert len({wild.make_pair(plan, n, 3).image for n in positions(plan, wild.PLACEHOLDER)}) == 1


def test_a_sign_shows_its_caption_in_other_pixels_than_its_animal(wild, plan):
    for position in positions(plan, wild.CAPTION_ON_SIGN)[:5]:
        pair = wild.make_pair(plan, position, 3)
        assert open_image(pair).size == (96, 96)
        assert pair.image != wild._encode(wild._draw(position, 3)[0])


def test_kinds_follow_zipfs_law(wild):
    kinds = wild.list_zipf_kinds(3)
    counts = sorted((kinds.count(kind) for kind in set(kinds)), reverse=True)
    assert len(counts) == 72
    assert counts[0] == 2 * counts[1] == 10 * counts[9]


def test_the_truth_lists_the_pairs_of_the_pool(wild, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    from zebra.config.data import DataConfig
    from zebra.data.sources import open_source

    monkeypatch.setattr(wild, "write_menagerie", lambda *_args, **_options: None)
    wild.write_pool(tmp_path, 40, 3)
    rows = pq.read_table(tmp_path / "truth.parquet").to_pylist()
    source = open_source(str(tmp_path / "pool"), DataConfig())
    assert [source.sample_id(n) for n in range(40)] == [f"00000.tar/{row['key']}" for row in rows]
    assert [source.read(n).captions for n in range(40)] == [(row["caption"],) for row in rows]
