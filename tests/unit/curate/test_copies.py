"""Near duplicates: which images count as copies of which, and which do not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from zebra.curate.copies import find_originals
from zebra.curate.signatures import compute_signature
from zebra.images.perceptual_hash import PerceptualHashIndex, find_hash_pairs
from zebra.menagerie.sample import generate_sample


def draw_texture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Return an image of smooth spots at several scales, the more like a photo the better."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (3 * 2**scale, 4 * 2**scale, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        for scale in range(1, 5)
    ]
    image = layers[0]
    for layer in layers[1:]:
        image = Image.blend(image, layer, 0.45)
    return image


def draw_words(*lines: str) -> Image.Image:
    image = Image.new("RGB", (160, 120), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((6, 5 + 22 * number), line, fill="black", font_size=18)
    return image


def encode_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def find_copies(images: list[Image.Image], *, crops: bool = True) -> list[int]:
    return find_originals([compute_signature(image, crops=crops) for image in images]).original_N.tolist()


ORIGINALS = [
    draw_texture(0),
    generate_sample(0, "train", 0)[0],
    draw_words("zebras graze in", "the savanna, and", "lions sleep under", "an acacia until", "it is cool again"),
]


@pytest.mark.parametrize("original", ORIGINALS, ids=["texture", "drawing", "text"])
def test_rescaled_recompressed_and_cropped_images_are_copies(original: Image.Image) -> None:
    width, height = original.size
    copies = [
        original.copy(),
        encode_jpeg(original, 40),
        original.resize((width // 2, height // 2), Image.Resampling.LANCZOS),
        original.resize((2 * width, 2 * height), Image.Resampling.BILINEAR),
        ImageEnhance.Brightness(original).enhance(1.15),
        encode_jpeg(original.crop((width // 10, 0, width, height * 9 // 10)), 75),
        original.crop((0, height // 4, width * 3 // 4, height)).resize((width, height), Image.Resampling.BICUBIC),
    ]
    assert find_copies([original, draw_texture(7), *copies]) == [0, 1] + [0] * len(copies)


def test_images_of_one_layout_are_no_copies() -> None:
    changed = ORIGINALS[0].copy()
    changed.paste(draw_texture(9), (0, 60))
    red, blue = (Image.new("RGB", (64, 64), color) for color in ("red", "blue"))
    images = [
        *(generate_sample(0, "train", index)[0] for index in range(10)),
        *ORIGINALS[::2],
        draw_words(
            "horses gallop on", "the open steppe;", "wolves are nearby", "but will not hunt", "by the light of day"
        ),
        changed,
        red,
        blue,
    ]
    assert find_copies(images) == list(range(len(images)))


def test_a_gray_copy_is_no_copy() -> None:
    assert find_copies([ORIGINALS[0], ORIGINALS[0].convert("L").convert("RGB")]) == [0, 1]


def test_a_logo_in_two_images_does_not_make_them_copies() -> None:
    images = [draw_texture(seed) for seed in (1, 2)]
    for image in images:
        image.paste(draw_words("zebra").crop((0, 0, 70, 50)), (80, 60))
    assert find_copies(images) == [0, 1]


def test_copies_form_no_chains() -> None:
    original = draw_texture(3, (320, 240))
    half, quarter = original.crop((0, 0, 210, 160)), original.crop((0, 0, 130, 100))
    assert find_copies([original, half]) == [0, 0]
    assert find_copies([half, quarter]) == [0, 0]
    assert find_copies([original, half, quarter]) == [0, 0, 2]  # less than a fifth of the original's area


def test_without_crops_only_whole_images_are_compared() -> None:
    original = ORIGINALS[0]
    copies = [original.resize((80, 60)), original.crop((0, 0, 120, 90))]
    assert find_copies([original, *copies], crops=False) == [0, 0, 2]
    assert find_copies([original, *copies]) == [0, 0, 0]


def test_a_smooth_image_or_none_at_all_is_no_problem() -> None:
    assert find_copies([]) == []
    assert find_copies([Image.new("RGB", (300, 8), "white"), Image.new("RGB", (8, 300), "black")]) == [0, 1]


def test_many_equal_hashes_are_compared_up_to_a_limit_and_counted() -> None:
    rows, others, num_skipped = PerceptualHashIndex(np.zeros(10, np.uint64), 0, max_bucket=4).find(
        np.zeros(3, np.uint64)
    )
    assert sorted(zip(rows.tolist(), others.tolist(), strict=True)) == [(row, n) for row in range(3) for n in range(4)]
    assert num_skipped == 3 * 6


@pytest.mark.parametrize("max_distance", [0, 1, 2, 5, 8])
def test_bands_find_exactly_the_pairs_within_a_distance(max_distance: int) -> None:
    rng = np.random.default_rng(max_distance)
    hash_N = rng.integers(0, 1 << 64, 60, dtype=np.uint64)
    flips = np.array([sum(1 << int(bit) for bit in rng.choice(64, n % 11, False)) for n in range(600)], np.uint64)
    near_M = hash_N[rng.integers(0, 60, 600)] ^ flips
    rows, others, num_skipped = PerceptualHashIndex(hash_N, max_distance, 256).find(near_M)
    expected = find_hash_pairs(near_M, hash_N, max_distance)
    assert set(zip(rows.tolist(), others.tolist(), strict=True)) == set(
        zip(expected[0].tolist(), expected[1].tolist(), strict=True)
    )
    assert num_skipped == 0
    assert len(rows) > 0


@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_the_progress_of_a_search_for_copies_ends_with_all_images(num_images: int) -> None:
    calls: list[tuple[int, int]] = []
    signatures = [compute_signature(image) for image in ORIGINALS[:num_images]]
    find_originals(signatures, callback=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (num_images, num_images)
