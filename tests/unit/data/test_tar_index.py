"""A shard is read completely or refused: no sample after damage is lost silently."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    return [sample.key for sample in scan_tar(LocalBlob(tmp_path / "x.tar"))]


def test_an_intact_shard_gives_every_sample_with_its_byte_ranges(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(FIVE)
    samples = list(scan_tar(LocalBlob(tmp_path / "x.tar")))
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
    (sample,) = scan_tar(LocalBlob(tmp_path / "x.tar"))
    assert (sample.key, list(sample.fields)) == (key, [suffix])


@pytest.mark.parametrize("name", ["README", "dir.d/README", ".hidden", "a/._x.jpg", "x."])
def test_names_without_key_or_suffix_are_ignored(tmp_path: Path, name: str) -> None:
    assert scan_keys(tmp_path, tar_bytes([("a.jpg", b"1"), (name, b"2"), ("b.jpg", b"3")])) == ["a", "b"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_tar_format(tmp_path: Path, format: int) -> None:
    key = "/".join(["folder" * 8] * 3) + "/x"
    assert scan_keys(tmp_path, tar_bytes([(f"{key}.jpg", b"1"), ("b.jpg", b"2")], format)) == [key, "b"]


def test_links_devices_and_folders_are_ignored_and_nothing_is_extracted(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in (
            ("a.jpg", tarfile.SYMTYPE),
            ("b.jpg", tarfile.LNKTYPE),
            ("c.jpg", tarfile.CHRTYPE),
            ("d.jpg", tarfile.FIFOTYPE),
            ("e.jpg", tarfile.DIRTYPE),
            ("../../up.jpg", tarfile.REGTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert scan_keys(tmp_path, buffer.getvalue()) == ["../../up"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_an_empty_archive_has_no_samples(tmp_path: Path) -> None:
    assert scan_keys(tmp_path, tar_bytes([])) == []


def test_a_shard_is_scanned_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(FIVE)
    first = TarIndex(LocalBlob(path))
    monkeypatch.setattr("zebra.data.tar_index.tarfile.open", None)
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
