"""Each rule drops what it says and nothing else."""

import pyarrow as pa
import pytest

from zebra.config.curate import ImageRules, TextRules
from zebra.curate.image_rules import duplicate_rules, image_rules, published_size_rules
from zebra.curate.rules import find_alone
from zebra.curate.text_rules import count_words, normalize_captions, repetition, text_rules
from zebra.errors import ConfigError


def dropped_texts(texts: list[str], **settings: object) -> list[str]:
    table = pa.table({"text": pa.array(texts, pa.string())})
    rules = text_rules(TextRules(**({"min_chars": 0, "min_words": 0, "drop_names": False} | settings)))
    masks = [find_alone(rule, [table]) for rule in rules]
    return [text for row, text in enumerate(texts) if any(mask[row] for mask in masks)]


@pytest.mark.parametrize(
    ("settings", "texts", "dropped"),
    [
        ({"min_chars": 5}, ["four", "four ", "fives", "ünïcö", "日本語"], ["four", "日本語"]),
        ({"max_chars": 5}, ["fives", "sixsix"], ["sixsix"]),
        ({"min_words": 2}, ["", "  ", "one", " one ", "two\u00a0words", "two\twords"], ["", "  ", "one", " one "]),
        ({"max_words": 2}, ["a b", "a b\nc"], ["a b\nc"]),
        ({"max_repetition": 0.25}, ["a b c d", "a a b c", "A a a b"], ["A a a b"]),
        ({"boilerplate": ("image for",)}, ["Image FOR sale", "image of"], ["Image FOR sale"]),
        ({"max_frequency": 1}, ["A dog!", "a  dog", "a dogs", "Maß", "maß."], ["A dog!", "a  dog", "Maß", "maß."]),
    ],
)
def test_limits_of_captions_are_inclusive(settings: dict[str, object], texts: list[str], dropped: list[str]) -> None:
    assert dropped_texts(texts, **settings) == dropped


@pytest.mark.parametrize(
    "text",
    [
        "horse.jpg", "my-horse_02.JPEG", "http://a.b/c", "www.example.com", "HTTPS://A.B/C?d=e", "DSC_0042", "img 2043",
        "d41d8cd98f00b204e9800998ecf8427e", "123e4567-e89b-12d3-a456-426614174000", "12345", "12/2021",
        "…!?", "Screenshot 2021-02-03", "$5", "１２",
    ],
)  # fmt: skip
def test_names_hashes_and_numbers_are_no_captions(text: str) -> None:
    assert dropped_texts([text], drop_names=True) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "horse", "a horse.", "photo of a horse.jpg on a screen", "see http://a.b/c for a horse", "image of 12 horses",
        "facade", "日本", "3 zebras", "Boeing 747", "deadbeef", "a", "photo", "🦓", "é", "Москва",
    ],
)  # fmt: skip
def test_words_are_captions(text: str) -> None:
    assert dropped_texts([text], drop_names=True) == []


@pytest.mark.parametrize(
    ("settings", "size", "is_dropped"),
    [
        ({"min_side": 200}, (200, 900), False),
        ({"min_side": 200}, (900, 199), True),
        ({"max_aspect_ratio": 3.0}, (300, 100), False),
        ({"max_aspect_ratio": 3.0}, (100, 301), True),
    ],
)
def test_limits_of_images_are_inclusive(settings: dict[str, object], size: tuple[int, int], is_dropped: bool) -> None:
    table = pa.table({"width": [size[0]], "height": [size[1]], "contrast": [50.0], "num_bytes": [9]})
    assert [find_alone(rule, [table]).item() for rule in image_rules(ImageRules(drop_uniform=False, **settings))] == [
        is_dropped
    ]


def test_words_of_texts_are_counted_per_text() -> None:
    texts = pa.chunked_array([["a b a", ""], ["x", "p q p q p"]])
    assert count_words(texts).to_pylist() == [3, 0, 1, 5]
    assert repetition(texts).to_pylist() == pytest.approx([1 / 3, 0, 0, 3 / 5])
    assert normalize_captions(pa.chunked_array([[" A—dog, $5! "]])).to_pylist() == ["a dog 5"]


@pytest.mark.parametrize(
    "settings",
    [{"min_words": 3, "max_words": 2}, {"max_repetition": 1.1}, {"boilerplate": (" ",)}, {"max_frequency": 0}],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TextRules(**settings)


def test_sizes_that_the_pool_publishes_are_checked_before_a_download() -> None:
    sizes = {"original_width": [300, 199, 700, None], "original_height": [200, 900, 200, 5]}
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in sizes.items()})
    config = ImageRules(min_side=200, max_aspect_ratio=3.0)
    rules = published_size_rules(config, table.column_names)
    assert [rule.reason for rule in rules] == ["image side under 200 pixels", "aspect ratio over 3"]
    assert [find_alone(rule, [table]).tolist() for rule in rules] == [
        [False, True, False, False],
        [False, True, True, False],
    ]
    assert published_size_rules(config, ["original_width", "given_height"]) == []
    assert len(published_size_rules(config, ["given_width", "given_height"])) == 2


def test_images_with_too_many_captions_are_dropped_with_all_of_them() -> None:
    digests = [bytes([digest] * 32) for digest in (1, 2, 1, 1)]
    ids = ["a", "b", "c", "c"]
    table = pa.table(
        {"sha256": pa.array(digests, pa.binary(32)), "id": ids, "index": [0, 1, 2, 2], "text": list("wxyz")}
    )
    for limit, expected in ((2, [True, False, True, True]), (3, [False] * 4)):
        _, rule = duplicate_rules(ImageRules(max_captions=limit, drop_duplicates=False))
        assert find_alone(rule, [table[:2], table[2:]]).tolist() == expected
    with pytest.raises(ConfigError, match="max_captions"):
        ImageRules(max_captions=0)
