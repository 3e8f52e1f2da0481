"""Perceptual hashes and nearest neighbors."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance
from scipy.fft import dctn

from zebra.errors import DataError
from zebra.images import perceptual_hash as module
from zebra.images.perceptual_hash import compute_perceptual_hashes, find_hash_pairs, find_nearest_hashes


def draw_image(seed, size=(200, 150)):
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(rng.integers(0, 255, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(8):
        x, y, w, h = (rng.random(4) * [size[0], size[1], 90, 70]).tolist()
        pen.ellipse((x - w / 2, y - h / 2, x + w / 2, y + h / 2), tuple(rng.integers(0, 255, 3).tolist()))
    return image


def distance(first, second):
    a, b = compute_perceptual_hashes([first, second]).tolist()
    return (a ^ b).bit_count()


def recompress(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=25)
    return Image.open(buffer)


@pytest.mark.parametrize("seed", range(8))
def test_the_bits_match_the_cosine_transform_of_scipy(seed):
    image = draw_image(seed)
    gray = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    spectrum = dctn(gray)[:8, :8].ravel()
    bits = spectrum > np.median(spectrum)
    assert compute_perceptual_hashes([image])[0] == int("".join(str(int(bit)) for bit in bits), 2)


def test_a_batch_gives_the_hashes_of_single_images():
    images = [draw_image(seed, (90 + seed, 60)) for seed in range(5)]
    assert compute_perceptual_hashes(images).tolist() == [compute_perceptual_hashes([image])[0] for image in images]


def test_no_images_give_no_hashes():
    assert compute_perceptual_hashes([]).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((90, 70), Image.Resampling.BICUBIC),
        lambda image: image.resize((400, 300)),
        recompress,
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: image.convert("L"),
    ],
    ids=["smaller", "larger", "JPEG", "darker", "gray"],
)
def test_a_modified_copy_has_a_similar_hash(change, seed):
    assert distance(draw_image(seed), change(draw_image(seed))) <= 6


def test_different_images_have_different_hashes():
    hashes = compute_perceptual_hashes([draw_image(seed) for seed in range(40)])
    first, second, _ = find_hash_pairs(hashes, hashes, 12)
    assert first.tolist() == second.tolist() == list(range(40))


def test_rounding_does_not_set_bits_of_a_flat_image():
    """All frequencies but the first are 0, so every image of one color has only the first bit."""
    flat = [Image.new("RGB", (50, 40), (gray, gray, gray)) for gray in (1, 77, 200, 255)]
    assert compute_perceptual_hashes(flat).tolist() == [1 << 63] * 4


def hashes(count):
    return st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=count).map(lambda n: np.array(n, np.uint64))


@settings(deadline=None)  # timing depends on the load of the machine
@given(hashes(9), hashes(9))
def test_neighbors_match_counted_bits_in_blocks_of_any_size(queries, references):
    counted = np.array([[(int(one) ^ int(other)).bit_count() for other in references] for one in queries])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HASH_BLOCK_SIZE", 4)
        bits, nearest = find_nearest_hashes(queries, references)
        first, second, distances = find_hash_pairs(queries, references, 30)
    assert bits.tolist() == counted.min(axis=1).tolist()
    assert nearest.tolist() == counted.argmin(axis=1).tolist()
    pairs = {(int(i), int(j)): int(counted[i, j]) for i, j in zip(*np.nonzero(counted <= 30), strict=True)}
    assert dict(zip(zip(first.tolist(), second.tolist(), strict=True), distances.tolist(), strict=True)) == pairs


def test_without_reference_hashes_the_search_fails():
    with pytest.raises(DataError, match="no reference hashes"):
        find_nearest_hashes(np.zeros(1, np.uint64), np.zeros(0, np.uint64))
