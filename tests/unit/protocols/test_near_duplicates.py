"""Tests of near duplicates by vectors and hashes."""

import numpy as np
import pytest

from zebra.protocols.near_duplicates import ImageSignatures, NearestTrainImages, ThresholdProbes, concatenate_signatures


def draw_signatures(n, seed=0, dim=16, views=1):
    rng = np.random.default_rng(seed)
    vector_VNE = rng.normal(size=(views, n, dim)).astype(np.float32)
    hash_VN, mirrored_hash_VN = rng.integers(0, 2**64, (2, views, n), np.uint64)
    return ImageSignatures(vector_VNE / np.linalg.norm(vector_VNE, axis=2, keepdims=True), hash_VN, mirrored_hash_VN)


def slice_signatures(images, rows):
    return ImageSignatures(images.vector_VNE[:, rows], images.hash_VN[:, rows], images.mirrored_hash_VN[:, rows])


def names(count):
    return [f"image {number}" for number in range(count)]


def probe_threshold(train, locations, blocks=1):
    probes = ThresholdProbes(train, locations)
    for rows in np.array_split(np.arange(len(locations)), blocks):
        probes.update(slice_signatures(train, rows), [locations[row] for row in rows])
    return probes.compute_threshold()


@pytest.mark.parametrize("blocks", [1, 3])
def test_one_clean_image_in_a_hundred_reaches_the_threshold(blocks):
    """Clean evaluation images have the distribution of the training images."""
    train, clean = draw_signatures(1000), draw_signatures(1000, seed=1)
    nearest = NearestTrainImages(clean)
    nearest.update(train, names(1000))
    marked = nearest.find_duplicates(probe_threshold(train, names(1000), blocks))
    assert 0.002 <= marked.mean() <= 0.025


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_copies_within_the_training_data_do_not_raise_the_threshold(is_mirrored):
    """A tenth of the images occurs twice, with a similar vector and an equal or mirrored hash."""
    train = draw_signatures(1000)
    twins = slice_signatures(train, np.arange(100))
    if is_mirrored:
        twins = ImageSignatures(twins.vector_VNE, twins.mirrored_hash_VN, twins.hash_VN)
    both = concatenate_signatures([train, twins])
    assert probe_threshold(both, names(1100)) == pytest.approx(probe_threshold(train, names(1000)), abs=0.02)


def test_copies_of_a_single_image_have_no_threshold():
    image = draw_signatures(1)
    assert probe_threshold(concatenate_signatures([image] * 5), names(5)) == 1


def test_a_probe_is_not_compared_with_itself():
    assert probe_threshold(draw_signatures(50), names(50)) < 0.99


@pytest.mark.parametrize("views", [1, 2])
def test_each_image_keeps_its_nearest_training_image_of_all_blocks_and_views(views):
    train, images = draw_signatures(30, views=views), draw_signatures(7, seed=1, views=views)
    nearest = NearestTrainImages(images)
    for start in (0, 10, 20):
        nearest.update(slice_signatures(train, np.arange(start, start + 10)), names(30)[start : start + 10])
    cosine_NM = np.einsum("vne,vme->vnm", images.vector_VNE, train.vector_VNE).max(axis=0)
    assert nearest.location_N == [f"image {row}" for row in cosine_NM.argmax(axis=1)]
    assert nearest.cosine_N == pytest.approx(cosine_NM.max(axis=1))
    assert not nearest.find_duplicates(1.1).any()


@pytest.mark.parametrize(("bits", "is_duplicate"), [(0, True), (2, True), (3, False)])
@pytest.mark.parametrize("attribute", ["hash_VN", "mirrored_hash_VN"])
@pytest.mark.parametrize("view", [0, 1])
def test_a_hash_or_a_mirrored_hash_within_two_bits_makes_a_duplicate(view, attribute, bits, is_duplicate):
    train, images = draw_signatures(5, views=2), draw_signatures(1, seed=1, views=2)
    getattr(images, attribute)[view, 0] = train.hash_VN[view, 3] ^ np.uint64(2**bits - 1)
    nearest = NearestTrainImages(images)
    nearest.update(train, names(5))
    assert nearest.find_duplicates(1.1).tolist() == [is_duplicate]
