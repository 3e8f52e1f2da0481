"""A query is the path of an image or a text, never a path taken for a text."""

import io

import pytest
from PIL import Image

from zebra.errors import ConfigError, DataError
from zebra.search.query_paths import folder_note, is_image_query, require_text


@pytest.fixture
def home(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    for name in ("query.jfif", "photo", "my photo.JPG", "image.dat"):
        (tmp_path / name).write_bytes(buffer.getvalue())
    (tmp_path / "query.psd").write_bytes(b"8BPS" + bytes(100))
    for name in ("notes", "empty.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "zebra").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("query", ["query.jfif", "photo", "my photo.JPG", "image.dat", "./photo"])
def test_an_existing_image_is_an_image_whatever_its_suffix(home, query):
    assert is_image_query(query)
    assert is_image_query(str(home / query))


@pytest.mark.parametrize("query", ["a zebra", "zebra", "black/white dog", "St. Bernard", "a.b", "word " * 2000, "n\0l"])
def test_words_are_a_text(home, query):
    assert not is_image_query(query)
    require_text(query, "--not")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("query.psd", r"query\.psd is a file that zebra cannot read as an image \(JPEG.*format is PSD"),
        ("notes", "cannot read as an image .* use another folder"),
        ("empty.jpg", "cannot read as an image"),
        ("./zebra", "is a folder. Name one image"),
        ("gone.jpg", r"there is no image at gone\.jpg. Check the path"),
        ("my other photo.PNG", "there is no image at my other photo"),
        ("gone.tiff ", "there is no image at"),
        ("photos/gone.heic", "there is no image at"),
        ("../photo-17", "there is no image at"),
        ("https://example.com/photo", "there is no image at https.* Download it first"),
    ],
)
def test_what_looks_like_a_path_is_an_error_and_not_a_text(home, query, message):
    with pytest.raises(DataError, match=message):
        is_image_query(query)


@pytest.mark.parametrize("text", ["photo.jpg", "./a", "https://example.com/a", "old photo.tif"])
def test_options_for_texts_refuse_paths(text):
    with pytest.raises(ConfigError, match=r"--not takes texts, but .* looks like the path of an image"):
        require_text(text, "--not")


def test_a_text_that_is_also_a_folder_gets_a_note(home):
    assert "zebra is also a folder here" in folder_note("zebra")
    assert folder_note("a zebra") == ""
