"""A shard is read completely or refused: no sample after damage is lost silently."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.ignored import Ignored, IgnoredCounter
from zebra.data.remote.blobs import LocalBlob
from zebra.data.tar_index import TarIndex, scan_tar
from zebra.errors import DataError

BLOCK = 512


def tar_bytes(members: list[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


# Five samples of five blocks: a jpg (header and two blocks) and a txt (header and one block).
FIVE = tar_bytes(
    [(f"{i}.{suffix}", bytes([65 + i]) * size) for i in range(5) for suffix, size in (("jpg", 600), ("txt", 9))]
)
SAMPLE = 5 * BLOCK


def scan_keys(tmp_path: Path, data: bytes) -> list[str]:
    (tmp_path / "x.tar").write_bytes(data)
    return [sample.key for sample in scan_tar(LocalBlob(tmp_path / "x.tar"), IgnoredCounter())]


def test_an_intact_shard_gives_every_sample_with_its_byte_ranges(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(FIVE)
    samples = list(scan_tar(LocalBlob(tmp_path / "x.tar"), IgnoredCounter()))
    assert [sample.key for sample in samples] == ["0", "1", "2", "3", "4"]
    offset, size = samples[3].fields["jpg"]
    assert FIVE[offset : offset + size] == b"D" * 600


DAMAGES = {
    "cut at a member's end": (FIVE[: 2 * SAMPLE], "truncated", 1),
    "cut inside a header": (FIVE[: 2 * SAMPLE + 100], "truncated", 1),
    "cut inside the data": (FIVE[: 2 * SAMPLE + 800], "ends inside its last member", 1),
    "a header zeroed": (FIVE[: 2 * SAMPLE] + bytes(BLOCK) + FIVE[2 * SAMPLE + BLOCK :], "neither a member nor", 1),
    "a header corrupted": (FIVE[: 2 * SAMPLE + 3] + b"\x07" + FIVE[2 * SAMPLE + 4 :], "neither a member nor", 1),
    "the end marker missing": (FIVE[: 5 * SAMPLE], "truncated", 4),
    "half the end marker missing": (FIVE[: 5 * SAMPLE + BLOCK], "truncated", 4),
    "another archive after it": (FIVE + FIVE, "neither a member nor", 4),
    "text after it": (FIVE + b"hello", "neither a member nor", 4),
    "no tar at all": (b"<html>" * 500, "shards must not be compressed", 0),
    "nothing": (b"", "empty file", 0),
    "compressed": (gzip.compress(FIVE), "shards must not be compressed", 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_error_with_shard_byte_and_number_of_samples(tmp_path: Path, damage: str) -> None:
    data, detail, num_samples = DAMAGES[damage]
    with pytest.raises(
        DataError, match=rf"x\.tar is damaged at byte [\d,]+, after {num_samples} complete samples: .*{detail}"
    ):
        scan_keys(tmp_path, data)


@given(size=st.integers(0, len(FIVE) - 1))
def test_no_truncation_loses_a_sample_silently(tmp_path: Path, size: int) -> None:
    try:
        assert scan_keys(tmp_path, FIVE[:size]) == ["0", "1", "2", "3", "4"]
    except DataError:
        return
    assert size >= 5 * SAMPLE + 1024


@given(position=st.integers(0, 5 * SAMPLE - 1), value=st.integers(0, 255))
def test_no_changed_byte_loses_a_sample_silently(tmp_path: Path, position: int, value: int) -> None:
    """A changed header must be detected; a changed payload is detected by the decoder."""
    data = bytearray(FIVE)
    data[position] = value
    try:
        assert len(scan_keys(tmp_path, bytes(data))) == 5
    except DataError as error:
        assert "damaged at byte" in str(error)


@pytest.mark.parametrize(
    ("name", "key", "suffix"),
    [
        ("a/b/0001.jpg", "a/b/0001", "jpg"),
        ("./0001.JPG", "./0001", "jpg"),
        ("img v1.5 a.jpg", "img v1", "5 a.jpg"),
        ("dir.d/x.seg.png", "dir.d/x", "seg.png"),
    ],
)
def test_names_are_split_as_in_webdataset(tmp_path: Path, name: str, key: str, suffix: str) -> None:
    (tmp_path / "x.tar").write_bytes(tar_bytes([(name, b"1")]))
    (sample,) = scan_tar(LocalBlob(tmp_path / "x.tar"), IgnoredCounter())
    assert (sample.key, list(sample.fields)) == (key, [suffix])


@pytest.mark.parametrize("name", ["README", "dir.d/README", ".hidden", "a/._x.jpg", "x."])
def test_names_without_key_or_suffix_are_ignored(tmp_path: Path, name: str) -> None:
    assert scan_keys(tmp_path, tar_bytes([("a.jpg", b"1"), (name, b"2"), ("b.jpg", b"3")])) == ["a", "b"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_tar_format(tmp_path: Path, format: int) -> None:
    key = "/".join(["folder" * 8] * 3) + "/x"
    assert scan_keys(tmp_path, tar_bytes([(f"{key}.jpg", b"1"), ("b.jpg", b"2")], format)) == [key, "b"]


def add_links(tar: tarfile.TarFile, links: list[tuple[str, bytes, str]]) -> None:
    for name, kind, target in links:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)


def index_links(tmp_path: Path, links: list[tuple[str, bytes, str]]) -> TarIndex:
    """Index a shard with the file a/0.jpg, whose content is "image", before these links."""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("a/0.jpg")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"image"))
        add_links(tar, links)
    return TarIndex(LocalBlob(tmp_path / "x.tar"))


@pytest.mark.parametrize(
    ("kind", "target"), [(tarfile.LNKTYPE, "a/0.jpg"), (tarfile.SYMTYPE, "../a/0.jpg"), (tarfile.SYMTYPE, "later.jpg")]
)
def test_a_link_stands_for_the_file_of_the_shard_that_it_names(tmp_path: Path, kind: bytes, target: str) -> None:
    index = index_links(tmp_path, [("b/1.jpg", kind, target), ("b/later.jpg", tarfile.LNKTYPE, "a/0.jpg")])
    assert [index.sample(position).key for position in range(len(index))] == ["a/0", "b/1", "b/later"]
    ranges = [index.sample(position).fields["jpg"] for position in range(3)]
    assert index.start_read(ranges)() == [b"image"] * 3
    assert index.ignored == ()


def test_links_that_lead_nowhere_and_devices_are_counted_and_nothing_is_extracted(tmp_path: Path) -> None:
    index = index_links(
        tmp_path,
        [
            ("b.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("c.jpg", tarfile.SYMTYPE, "../../etc/passwd"),
            ("d.jpg", tarfile.LNKTYPE, "gone.jpg"),
            ("e.jpg", tarfile.SYMTYPE, "f.jpg"),
            ("f.jpg", tarfile.SYMTYPE, "e.jpg"),
            ("g.jpg", tarfile.CHRTYPE, ""),
            ("h.jpg", tarfile.FIFOTYPE, ""),
            ("folder.jpg", tarfile.DIRTYPE, ""),
        ],
    )
    assert [index.sample(position).key for position in range(len(index))] == ["a/0"]
    assert index.ignored == (
        Ignored("symbolic link to no file of the shard", 4, "b.jpg"),
        Ignored("special file", 2, "g.jpg"),
        Ignored("hard link to no file of the shard", 1, "d.jpg"),
    )
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["x.tar"]


def test_names_that_belong_to_no_sample_are_counted_and_the_digest_of_a_clean_shard_has_no_part_of_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.tar").write_bytes(tar_bytes([("README", b"1"), ("a.jpg", b"2"), ("b/._a.jpg", b"3")]))
    for _ in range(2):  # the second time from the cache
        index = TarIndex(LocalBlob(tmp_path / "x.tar"))
        assert index.ignored == (Ignored("hidden", 1, "b/._a.jpg"), Ignored("no suffix", 1, "README"))
        assert (len(index), index.sample(0).key, index.damage) == (1, "a", None)
    assert TarIndex(LocalBlob(tmp_path / "x.tar")).labels().to_pylist() == [None]


def test_an_empty_archive_has_no_samples(tmp_path: Path) -> None:
    assert scan_keys(tmp_path, tar_bytes([])) == []


def test_a_shard_is_scanned_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(FIVE)
    first = TarIndex(LocalBlob(path))
    monkeypatch.setattr("zebra.data.tar_index.iter_members", None)
    assert len(TarIndex(LocalBlob(path))) == 5
    monkeypatch.undo()
    path.write_bytes(tar_bytes([("new.jpg", b"1")]))
    second = TarIndex(LocalBlob(path))
    assert len(second) == 1
    assert first.digest != second.digest


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    members = [("caf\udce9.jpg", b"1"), ("x.\udce9", b"2"), ("x.\udce9", b"3")]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    index = TarIndex(LocalBlob(tmp_path / "x.tar"))
    assert index.sample(0).key == "caf\\udce9"
    assert index.sample(1).duplicate_field == "\\udce9"
