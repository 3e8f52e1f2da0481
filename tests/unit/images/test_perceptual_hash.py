"""Perceptual hashes and their neighbours."""

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


def drawing(seed, size=(200, 150)):
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(rng.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y, w, h = (rng.random(4) * [size[0], size[1], 90, 70]).tolist()
        draw.ellipse((x - w / 2, y - h / 2, x + w / 2, y + h / 2), tuple(rng.integers(0, 255, 3).tolist()))
    return image


def distance(first, second):
    one, other = compute_perceptual_hashes([first, second]).tolist()
    return (one ^ other).bit_count()


def recompressed(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=25)
    return Image.open(buffer)


@pytest.mark.parametrize("seed", range(8))
def test_the_bits_are_those_of_scipys_cosine_transform(seed):
    image = drawing(seed)
    gray = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    low = dctn(gray)[:8, :8].ravel()
    bits = low > np.median(low)
    assert compute_perceptual_hashes([image])[0] == int("".join(str(int(bit)) for bit in bits), 2)


def test_a_batch_gives_each_picture_the_hash_it_has_alone():
    images = [drawing(seed, (90 + seed, 60)) for seed in range(5)]
    assert compute_perceptual_hashes(images).tolist() == [
        compute_perceptual_hashes([image])[0] for image in images
    ]


def test_no_pictures_give_no_hashes():
    assert compute_perceptual_hashes([]).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((90, 70), Image.Resampling.BICUBIC),
        lambda image: image.resize((400, 300)),
        recompressed,
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: image.convert("L"),
    ],
    ids=["smaller", "larger", "JPEG", "darker", "gray"],
)
def test_a_changed_copy_stays_near(change, seed):
    assert distance(drawing(seed), change(drawing(seed))) <= 6


def test_other_pictures_are_far():
    hashes = compute_perceptual_hashes([drawing(seed) for seed in range(40)])
    first, second, _ = find_hash_pairs(hashes, hashes, 12)
    assert first.tolist() == second.tolist() == list(range(40))


def test_rounding_does_not_make_bits_of_a_flat_picture():
    """Every frequency but the first is 0, so every picture of one colour has the first bit alone."""
    flat = [Image.new("RGB", (50, 40), (gray, gray, gray)) for gray in (1, 77, 200, 255)]
    assert compute_perceptual_hashes(flat).tolist() == [1 << 63] * 4


def hashes(count):
    return st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=count).map(
        lambda n: np.array(n, np.uint64)
    )


@settings(deadline=None)  # times on a busy machine say nothing
@given(hashes(9), hashes(9))
def test_neighbours_agree_with_counting_bits_in_blocks_of_any_size(some, known):
    counted = np.array([[(int(one) ^ int(other)).bit_count() for other in known] for one in some])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "HASH_BLOCK_SIZE", 4)
        bits, which = find_nearest_hashes(some, known)
        first, second, apart = find_hash_pairs(some, known, 30)
    assert bits.tolist() == counted.min(axis=1).tolist()
    assert which.tolist() == counted.argmin(axis=1).tolist()
    pairs = {(int(i), int(j)): int(counted[i, j]) for i, j in zip(*np.nonzero(counted <= 30), strict=True)}
    assert dict(zip(zip(first.tolist(), second.tolist(), strict=True), apart.tolist(), strict=True)) == pairs


def test_without_known_hashes_nothing_is_nearest():
    with pytest.raises(DataError, match="no hashes"):
        find_nearest_hashes(np.zeros(1, np.uint64), np.zeros(0, np.uint64))
