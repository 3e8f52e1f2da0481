"""A cell gives an image by path, bytes, base64 or data URI, or a reason that says what to do."""

import base64
import os
import unicodedata
from pathlib import Path

import pytest

from zebra.data.image_cells import parse_image_cell, read_table_image, resolve_image_path
from zebra.errors import BadSample

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(100))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "table" / "images").mkdir(parents=True)
    return tmp_path / "table"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(JPEG)
    return path


def read(folder: Path, cell: object) -> bytes:
    name, image = parse_image_cell(cell)
    return read_table_image(folder, name, "t:1") if name is not None else image or b""


def reason(folder: Path, cell: object) -> str:
    with pytest.raises(BadSample) as caught:
        read(folder, cell)
    return f"{caught.value.reason}: {caught.value.detail}"


@pytest.mark.parametrize(
    "cell",
    [
        JPEG,
        {"bytes": JPEG, "path": "gone.jpg"},
        base64.b64encode(JPEG).decode(),
        base64.encodebytes(JPEG).decode(),
        "data:image/jpeg;base64," + base64.b64encode(JPEG).decode(),
        "data:;base64," + base64.b64encode(JPEG).decode(),
        {"bytes": base64.b64encode(JPEG).decode()},
    ],
)
def test_bytes_base64_and_data_uris_are_the_image(folder: Path, cell: object) -> None:
    assert read(folder, cell) == JPEG


@pytest.mark.parametrize(
    ("file", "cell"),
    [
        ("images/0.jpg", " images/0.jpg\n"),
        ("images/0.jpg", "images\\0.jpg"),
        ("images/0.jpg", "..\\table\\images\\0.jpg"),
        ("images/0.jpg", "file://images/0.jpg"),
        ("images/a b.jpg", "file://images/a%20b.jpg"),
        ("images/100%25.jpg", "images/100%25.jpg"),
        ("back\\slash.jpg", "back\\slash.jpg"),
        (unicodedata.normalize("NFD", "café/é.jpg"), unicodedata.normalize("NFC", "café/é.jpg")),
        (unicodedata.normalize("NFC", "café.jpg"), unicodedata.normalize("NFD", "café.jpg")),
        ("~/0.jpg", "~/0.jpg"),
    ],
)
def test_the_file_of_a_path_is_found_in_another_spelling(folder: Path, file: str, cell: str) -> None:
    put(folder / file)
    assert read(folder, cell) == JPEG
    name, _ = parse_image_cell(cell)
    assert name is not None
    assert resolve_image_path(folder, name).samefile(folder / file)


def test_absolute_paths_uris_and_the_home_directory_are_read(folder: Path, tmp_path: Path, monkeypatch) -> None:
    path = put(tmp_path / "home" / "0.jpg")
    monkeypatch.setenv("HOME", str(path.parent))
    for cell in (str(path), f"file://{path}", f"file://localhost{path}", "~/0.jpg"):
        assert read(folder, cell) == JPEG


def test_the_exact_name_takes_precedence_over_another_spelling(folder: Path) -> None:
    put(folder / "a b.jpg")
    (folder / "a%20b.jpg").write_bytes(b"exact")
    assert read(folder, "a%20b.jpg") == b"exact"


@pytest.mark.parametrize(
    "url", ["https://example.org/0.jpg", "HTTP://example.org/0.jpg", "s3://bucket/0.jpg", "zip://0.jpg::a.zip"]
)
def test_an_address_is_named_in_full_with_the_remedy(folder: Path, url: str) -> None:
    assert reason(folder, url).startswith(f"image is a URL: {url}; download the images first")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("C:\\images\\0.jpg", "a path of a Windows computer"),
        ("\\\\server\\share\\0.jpg", "a path of a Windows computer"),
        ("images\\gone.jpg", "with backslashes or with slashes"),
        ("gone.jpg", "gone.jpg: No such file or directory"),
        ("/9j/" + "A" * 200 + "*", "broken base64: '/9j/AAAA"),
        ("data:image/png;base64,", "missing image: an empty data URI"),
        ("data:image/svg+xml,<svg/>", "a data URI without base64"),
        ("x" * 100_000, "has 100,000 characters, too many for a path"),
        ("x" * 300 + ".jpg", "unreadable file"),
        (7, "neither a path nor bytes: '7'"),
        ({"url": "0.jpg"}, "its keys are url, not bytes or path"),
        ({"bytes": None, "path": None}, "the image column is empty"),
        ("", "the image column is empty"),
        (".", "unreadable file"),
    ],
)
def test_a_cell_without_an_image_has_its_reason(folder: Path, cell: object, expected: str) -> None:
    message = reason(folder, cell)
    assert expected in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("file", "cell"),
    [
        ("0.jpg", "images/0.jpg"),
        ("images/0.jpg", "0.jpg"),
        ("images/0.jpg", "/images/0.jpg"),
        ("0.jpg", "D:\\old\\0.jpg"),
        ("../images/1.jpg", "images/1.jpg"),
        ("a.JPG", "a.jpg"),
        ("a.jpg", "A.jpg"),
        ("a.png", "a"),
        ("a.b.jpg", "a.b"),
    ],
)
def test_a_file_elsewhere_is_named_and_not_read(folder: Path, file: str, cell: str) -> None:
    put(folder / file)
    message = reason(folder, cell)
    assert "No such file, but" in message
    assert f"{Path(file).name} exists. Paths are relative to the folder of the table" in message


def test_a_path_relative_to_the_working_directory_is_named(folder: Path, tmp_path: Path, monkeypatch) -> None:
    put(tmp_path / "project" / "pictures" / "0.jpg")
    monkeypatch.chdir(tmp_path / "project")
    assert f"{tmp_path}/project/pictures/0.jpg exists" in reason(folder, "pictures/0.jpg")


def test_only_regular_files_are_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    assert "a named pipe, not a regular file" in reason(folder, "pipe.jpg")
    assert "not a regular file" in reason(folder, "/dev/zero")
    assert "a folder, not a regular file" in reason(folder, "folder.jpg")
