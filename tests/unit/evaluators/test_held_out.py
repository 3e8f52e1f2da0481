"""Tests of the evaluation on held-out pairs."""

import io

import pytest
from PIL import Image

from zebra.evaluators.held_out import evaluate_held_out
from zebra.evaluators.validation import RetrievalValidator
from zebra.images.preprocess import Preprocess
from zebra.pretrained.bundle import Bundle
from zebra.values import Record

pytestmark = pytest.mark.filterwarnings("ignore:.*were truncated")  # the tiny model reads 16 tokens
COLORS = ["red", "green", "blue", "yellow", "black", "white", "orange", "purple", "gray", "brown", "pink", "navy"]


class ColorSource:
    """Images of one color each, in as many rows as captions."""

    name, ignored, digest = "colors", (), "0" * 64

    def __init__(self, num_images: int, rows_per_image: int = 1) -> None:
        self.rows = [color for color in COLORS[:num_images] for _ in range(rows_per_image)]

    def __len__(self) -> int:
        return len(self.rows)

    def sample_id(self, index: int) -> str:
        return f"colors:{index}"

    def read(self, index: int) -> Record:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), self.rows[index]).save(buffer, "PNG")
        return Record(self.sample_id(index), buffer.getvalue(), (f"a {self.rows[index]} thing {index}",))


def test_hits_and_misses_are_all_images_and_templates_are_chosen(clip: Bundle) -> None:
    result = evaluate_held_out(clip, RetrievalValidator(ColorSource(12), Preprocess(image_size=64)))
    assert result is not None
    assert len(result.hits) == round(12 * result.scores["image_to_text_recall@1"].value)
    assert len(result.misses) == min(8, 12 - len(result.hits))
    assert all(example.rank > 1 and example.retrieved != example.caption for example in result.misses)
    assert result.templates is not None and result.templates.num_labels == 12


def test_rows_with_the_same_image_are_captions_of_one_image(clip: Bundle) -> None:
    result = evaluate_held_out(clip, RetrievalValidator(ColorSource(4, rows_per_image=3), Preprocess(image_size=64)))
    assert result is not None
    assert (result.num_images, result.num_captions) == (4, 12)


@pytest.mark.parametrize("rows", [1, 3])
def test_there_is_nothing_to_retrieve_among_one_image(clip: Bundle, rows: int) -> None:
    source = ColorSource(1, rows_per_image=rows)
    assert evaluate_held_out(clip, RetrievalValidator(source, Preprocess(image_size=64))) is None
