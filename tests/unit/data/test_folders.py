"""A folder of images with captions gives records, and a reason for every bad file."""

import os
import pickle
from pathlib import Path

import pytest

from zebra.config.data import DataConfig
from zebra.data import columns
from zebra.data.folders import FolderSource
from zebra.data.ignored import Ignored
from zebra.data.sources import open_images
from zebra.errors import BadSample, ConfigError


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


def reasons_by_id(source: FolderSource) -> dict[str, str]:
    reasons = {}
    for index in range(len(source)):
        try:
            reasons[source.read(index).id] = "good"
        except BadSample as bad:
            reasons[bad.location] = bad.reason
    return reasons


def test_records_carry_image_caption_and_relative_path(folder: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(1), b"a dog")
    record = FolderSource(folder).read(0)
    assert record.id == "a.jpg"
    assert record.image == make_image(1)
    assert record.captions == ("a dog",)
    assert record.label is None


def test_files_are_sorted_before_subfolders(folder: Path, make_image) -> None:
    for name in ("dogs/z.png", "dogs/B.JPG", "cats/k.gif", "b.jpeg", "a.webp", "apes/x.bmp", ".trash/t.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        add(folder / name, make_image(), b"x")
    source = FolderSource(folder)
    assert [source.read(i).id for i in range(len(source))] == [
        "a.webp",
        "b.jpeg",
        "apes/x.bmp",
        "cats/k.gif",
        "dogs/B.JPG",
        "dogs/z.png",
    ]


def test_only_the_last_suffix_is_replaced(folder: Path, make_image) -> None:
    add(folder / "v1.5.jpg", make_image(), b"with a dot")
    assert FolderSource(folder).read(0).captions == ("with a dot",)


def test_several_lines_are_one_caption_without_a_byte_order_mark(folder: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(), b"\xef\xbb\xbftwo\nlines")
    assert FolderSource(folder).read(0).captions == ("two\nlines",)


def test_every_bad_file_has_its_reason(folder: Path, make_image) -> None:
    add(folder / "alone.jpg", make_image(), None)
    add(folder / "blank.jpg", make_image(), b" \n")
    add(folder / "good.jpg", make_image(), "ç".encode())
    add(folder / "latin.jpg", make_image(), "ç".encode("latin-1"))
    add(folder / "words.jpg", None, b"no image")
    (folder / "link.jpg").symlink_to(folder / "gone.jpg")
    (folder / "link.txt").write_text("a dangling link")
    (folder / "notes.md").write_text("ignored")
    (folder / ".hidden.jpg").write_bytes(b"ignored")
    assert reasons_by_id(FolderSource(folder)) == {
        "alone.jpg": "missing caption",
        "blank.jpg": "empty caption",
        "good.jpg": "good",
        "latin.jpg": "caption is not UTF-8",
        "link.jpg": "unreadable file",
        "words.txt": "missing image",
    }


def test_a_file_that_is_deleted_after_listing_is_unreadable(folder: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(), b"x")
    source = FolderSource(folder)
    (folder / "a.jpg").unlink()
    assert reasons_by_id(source) == {"a.jpg": "unreadable file"}


def test_a_name_that_is_not_utf8_has_an_escaped_id(folder: Path, make_image) -> None:
    add(folder / "caf\udce9.jpg", make_image(), b"x")
    record = FolderSource(folder).read(0)
    assert record.id == "caf\\xe9.jpg"
    assert record.image == make_image()


def test_the_digest_depends_on_names_and_sizes(folder: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(), b"a dog")
    first = FolderSource(folder).digest
    (folder / "a.txt").touch()
    assert FolderSource(folder).digest == first
    (folder / "a.txt").write_text("a cat!")
    second = FolderSource(folder).digest
    (folder / "a.jpg").rename(folder / "b.jpg")
    assert len({first, second, FolderSource(folder).digest}) == 3


def test_a_source_can_be_pickled(folder: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(), b"a dog")
    source = FolderSource(folder)
    assert pickle.loads(pickle.dumps(source)).read(0) == source.read(0)


def test_suffixes_may_have_capitals_and_jpegs_other_suffixes(folder: Path, make_image) -> None:
    for image, caption in (("a.JPG", "a.TXT"), ("b.jfif", "b.Txt"), ("c.JPE", "c.txt")):
        (folder / image).write_bytes(make_image())
        (folder / caption).write_text(caption)
    source = FolderSource(folder)
    assert [source.read(index).captions[0] for index in range(len(source))] == ["a.TXT", "b.Txt", "c.txt"]
    assert [ref.load().captions[0] for ref in source.scan()] == ["a.TXT", "b.Txt", "c.txt"]
    assert source.ignored == ()


def test_of_two_captions_that_differ_in_letter_case_the_second_is_counted(folder: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(), b"lower")
    (folder / "a.TXT").write_text("upper")
    source = FolderSource(folder)
    assert source.read(0).captions == ("lower",)
    assert source.ignored == (Ignored("second caption of an image", 1, "a.TXT"),)


def test_files_of_other_kinds_are_counted_with_an_example(folder: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(), b"x")
    for name in ("dogs/f.psd", "dogs/g.PSD", "noname", "metadata.csv", ".DS_Store", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    source = FolderSource(folder)
    assert len(source) == 1
    assert source.ignored == (
        Ignored(".psd", 2, "dogs/f.psd"),
        Ignored("hidden", 2, ".git"),
        Ignored(".csv", 1, "metadata.csv"),
        Ignored("no suffix", 1, "noname"),
    )


def test_a_linked_folder_is_read_once_and_loops_end(folder: Path, tmp_path: Path, make_image) -> None:
    add(folder / "a.jpg", make_image(), b"x")
    outside = tmp_path / "2021"
    (outside / "deep").mkdir(parents=True)
    add(outside / "deep" / "b.jpg", make_image(), b"x")
    (outside / "back").symlink_to(folder)
    (folder / "linked").symlink_to(outside)
    (folder / "linked-again").symlink_to(outside / "deep")
    (folder / "self").symlink_to(folder)
    (folder / "parent").symlink_to(tmp_path)
    (folder / "a-sibling").symlink_to(folder / "dogs")
    add(folder / "dogs" / "c.jpg", make_image(), b"x")
    source = FolderSource(folder)
    assert list(reasons_by_id(source)) == ["a.jpg", "dogs/c.jpg", "linked-again/b.jpg"]
    assert [(entry.reason, entry.count) for entry in source.ignored] == [("link to a folder that is read elsewhere", 5)]


def test_special_files_are_bad_samples_and_nothing_waits_for_them(folder: Path, make_image) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "pipe.txt").write_text("x")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "zero.txt").write_text("x")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "loop.txt").write_text("x")
    add(folder / "words.jpg", make_image(), None)
    os.mkfifo(folder / "words.txt")
    (folder / "folder.png").mkdir()
    source = FolderSource(folder)
    assert reasons_by_id(source) == dict.fromkeys(("loop.jpg", "pipe.jpg", "words.jpg", "zero.jpg"), "unreadable file")
    for ref in source.scan():
        with pytest.raises(BadSample, match="unreadable file"):
            ref.load()


@pytest.mark.parametrize("name", ["x.psd", "x.PSD", "x.jp2", "x.svg"])
def test_a_caption_of_an_unsupported_image_names_its_format(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    (folder / "x.txt").write_text("a cat")
    with pytest.raises(BadSample, match=rf"{name} is a (PSD|JPEG 2000|SVG) image, which zebra does not read"):
        FolderSource(folder).read(0)


def test_images_without_captions_point_to_the_metadata_table(folder: Path, make_image) -> None:
    add(folder / "dogs" / "a.jpg", make_image(), None)
    (folder / "metadata.csv").write_text("file_name,text\ndogs/a.jpg,a dog\n")
    with pytest.raises(BadSample, match=r"if .*photos/metadata\.csv has the captions, give it instead of the folder"):
        FolderSource(folder).read(0)


def test_a_caption_that_is_too_long_is_a_bad_sample(folder: Path, make_image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_CAPTION_CHARS", 10)
    add(folder / "a.jpg", make_image(), b"1234567890")
    add(folder / "b.jpg", make_image(), b"12345678901")
    assert reasons_by_id(FolderSource(folder)) == {"a.jpg": "good", "b.jpg": "caption is too long"}


def test_details_of_undecodable_names_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.jpg").write_bytes(b"x")
    os.mkfifo(tmp_path / "th\udce9.jpg")
    (tmp_path / "th\udce9.txt").write_text("tea")
    (tmp_path / "vin\udce9.txt").symlink_to("gone")
    source = FolderSource(tmp_path)
    for index in range(len(source)):
        with pytest.raises(BadSample) as caught:
            source.read(index)
        assert "\\udce9" in str(caught.value)
        str(caught.value).encode()


def test_the_folder_of_an_image_can_be_its_caption(folder: Path, make_image) -> None:
    (folder / "red cats" / "old").mkdir(parents=True)
    add(folder / "dogs" / "a.jpg", make_image(), None)
    add(folder / "red cats" / "old" / "b.jpg", make_image(), b"a cat")
    add(folder / "c.jpg", make_image(), None)
    config = DataConfig(caption_columns=("class",))
    source = FolderSource(folder, config)
    assert reasons_by_id(source) == {"c.jpg": "missing caption", "dogs/a.jpg": "good", "red cats/old/b.jpg": "good"}
    assert [source.read(index).captions for index in (1, 2)] == [("dogs",), ("red cats",)]
    scanned = [ref.load().captions for ref in open_images(folder, config).scan()]
    assert scanned == [(), ("dogs",), ("red cats",)]


def test_the_text_file_and_the_folder_share_the_weight(folder: Path, make_image) -> None:
    add(folder / "dogs" / "a.jpg", make_image(), b"an old dog")
    add(folder / "dogs" / "b.jpg", make_image(), b" ")
    config = DataConfig(caption_columns=("txt", "class"), caption_weights=(0.75, 0.25))
    first, second = (FolderSource(folder, config).read(index) for index in range(2))
    assert (first.captions, first.caption_probabilities) == (("an old dog", "dogs"), (0.75, 0.25))
    assert (second.captions, second.caption_probabilities) == (("dogs",), (1.0,))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(caption_columns=("clas",)), "Did you mean 'class'?.*give a table"),
        (DataConfig(group_column="sku"), "has no groups. Give a table"),
    ],
)
def test_columns_that_a_folder_does_not_have_are_refused(folder: Path, config: DataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        FolderSource(folder, config)
