"""Images that libraries pass as text."""

import base64
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zebra.errors import BadSample, DataError
from zebra.integrations.image_uris import resolve_image


def test_all_spellings_of_an_image_give_its_vector(clip, image_paths, image_vectors, monkeypatch):
    path = Path(image_paths[1])
    data = path.read_bytes()
    monkeypatch.setenv("HOME", str(path.parent))
    spellings = [
        str(path), path.as_uri(), f"file://{path}", f"~/{path.name}", os.path.relpath(path), path, data,
        Image.open(path), base64.b64encode(data).decode(), f"data:image/jpeg;base64,{base64.b64encode(data).decode()}",
    ]  # fmt: skip
    vectors = clip.encode_images([resolve_image(image, "image 0") for image in spellings]).numpy()
    np.testing.assert_array_equal(vectors, np.broadcast_to(image_vectors[1], vectors.shape))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://example.org/cat.jpg", "image is a URL"),
        ("s3://bucket/cat.jpg", "image is a URL"),
        ("", "missing image"),
        ("data:image/png;base64,!!", "broken base64"),
    ],
)
def test_a_text_that_is_no_image_is_named(text, reason):
    with pytest.raises(BadSample, match=f"image 3: {reason}"):
        resolve_image(text, "image 3")


def test_a_missing_file_is_named(clip):
    with pytest.raises(DataError, match=r"no image file at /nowhere/cat\.jpg"):
        clip.encode_images([resolve_image("file:///nowhere/cat.jpg", "image 0")])
