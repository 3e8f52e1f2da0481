"""A folder of pictures with same-name captions becomes records, and every stray file is accounted for."""

import pickle
from pathlib import Path

import pytest

from zebra.data.folders import FolderSource
from zebra.errors import BadSample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "photos"
    (path / "dogs").mkdir(parents=True)
    return path


def add(path: Path, image: bytes | None, caption: bytes | None) -> None:
    if image is not None:
        path.write_bytes(image)
    if caption is not None:
        path.with_suffix(".txt").write_bytes(caption)


def reasons(source: FolderSource) -> dict[str, str]:
    found = {}
    for index in range(len(source)):
        try:
            found[source.read(index).id] = "good"
        except BadSample as bad:
            found[bad.location] = bad.reason
    return found


def test_records_carry_image_caption_and_relative_path(folder: Path, picture) -> None:
    add(folder / "a.jpg", picture(1), b"a dog")
    record = FolderSource(folder).read(0)
    assert record.id == "a.jpg"
    assert record.image == picture(1)
    assert record.captions == ("a dog",)
    assert record.label is None


def test_the_order_is_that_of_the_names_and_subfolders_follow(folder: Path, picture) -> None:
    for name in ("dogs/z.png", "dogs/B.JPG", "cats/k.gif", "b.jpeg", "a.webp", "apes/x.bmp", ".trash/t.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        add(folder / name, picture(), b"x")
    source = FolderSource(folder)
    assert [source.read(i).id for i in range(len(source))] == [
        "a.webp",
        "b.jpeg",
        "apes/x.bmp",
        "cats/k.gif",
        "dogs/B.JPG",
        "dogs/z.png",
    ]


def test_only_the_last_suffix_is_exchanged(folder: Path, picture) -> None:
    add(folder / "v1.5.jpg", picture(), b"with a dot")
    assert FolderSource(folder).read(0).captions == ("with a dot",)


def test_several_lines_are_one_caption_and_a_byte_order_mark_is_none_of_it(folder: Path, picture) -> None:
    add(folder / "a.jpg", picture(), b"\xef\xbb\xbftwo\nlines")
    assert FolderSource(folder).read(0).captions == ("two\nlines",)


def test_every_stray_or_broken_file_has_its_reason(folder: Path, picture) -> None:
    add(folder / "alone.jpg", picture(), None)
    add(folder / "blank.jpg", picture(), b" \n")
    add(folder / "good.jpg", picture(), "ç".encode())
    add(folder / "latin.jpg", picture(), "ç".encode("latin-1"))
    add(folder / "words.jpg", None, b"no picture")
    (folder / "link.jpg").symlink_to(folder / "gone.jpg")
    (folder / "link.txt").write_text("a link to nowhere")
    (folder / "notes.md").write_text("of no interest")
    (folder / ".hidden.jpg").write_bytes(b"of no interest")
    assert reasons(FolderSource(folder)) == {
        "alone.jpg": "missing caption",
        "blank.jpg": "empty caption",
        "good.jpg": "good",
        "latin.jpg": "caption is not UTF-8",
        "link.jpg": "unreadable file",
        "words.txt": "missing image",
    }


def test_a_file_that_vanished_after_listing_is_unreadable(folder: Path, picture) -> None:
    add(folder / "a.jpg", picture(), b"x")
    source = FolderSource(folder)
    (folder / "a.jpg").unlink()
    assert reasons(source) == {"a.jpg": "unreadable file"}


def test_a_name_that_is_not_utf8_is_read_and_its_id_is(folder: Path, picture) -> None:
    add(folder / "caf\udce9.jpg", picture(), b"x")
    record = FolderSource(folder).read(0)
    assert record.id == "caf\\xe9.jpg"
    assert record.image == picture()


def test_the_digest_changes_with_names_and_sizes_only(folder: Path, picture) -> None:
    add(folder / "a.jpg", picture(), b"a dog")
    first = FolderSource(folder).digest
    (folder / "a.txt").touch()
    assert FolderSource(folder).digest == first
    (folder / "a.txt").write_text("a cat!")
    second = FolderSource(folder).digest
    (folder / "a.jpg").rename(folder / "b.jpg")
    assert len({first, second, FolderSource(folder).digest}) == 3


def test_a_source_travels_to_workers(folder: Path, picture) -> None:
    add(folder / "a.jpg", picture(), b"a dog")
    source = FolderSource(folder)
    assert pickle.loads(pickle.dumps(source)).read(0) == source.read(0)
