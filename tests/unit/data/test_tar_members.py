"""Tar headers are read as Python's tarfile reads them, in bounded memory; hostile headers are damage."""

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.tar_members import MAX_HEADER_BYTES, DamageFound, TarMember, iter_members

BLOCK = 512
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def read_members(data: bytes) -> list[TarMember]:
    return list(iter_members(io.BufferedReader(io.BytesIO(data)), len(data)))  # type: ignore[arg-type]


def header(name: str = "a.jpg", size: int = 0, kind: bytes = b"0", size_field: bytes | None = None) -> bytes:
    """A header with a valid checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf())
    block[124:136] = size_field if size_field is not None else b"%011o\0" % size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    data = b"".join(records)
    return header("pax", len(data), kind) + padded(data)


END = bytes(2 * BLOCK)
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=300).filter(
    lambda name: not name.endswith("/")
)


@given(
    members=st.lists(
        st.tuples(NAMES, st.binary(max_size=1200), st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE])), max_size=5
    ),
    tar_format=st.sampled_from(FORMATS),
)
def test_members_are_those_of_the_standard_library(members, tar_format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            try:
                tar.addfile(info, io.BytesIO(content) if info.size else None)
            except ValueError:  # a name that ustar cannot store
                continue
    data = buffer.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(info.name, info.isreg(), info.offset_data, info.size) for info in tar]
    actual = [
        (member.name.rstrip("/") if member.type == "folder" else member.name, member.type == "file", *member.byte_range)
        for member in read_members(data)
    ]
    assert actual == expected


@pytest.mark.parametrize("tar_format", FORMATS)
def test_links_and_sparse_files_are_recognized(tar_format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, kind, target in (("a/s.jpg", tarfile.SYMTYPE, "../b.jpg"), ("h.jpg", tarfile.LNKTYPE, "c.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    assert [(member.type, member.link_target) for member in read_members(buffer.getvalue())] == [
        ("symbolic link", "b.jpg"),
        ("hard link", "c.jpg"),
    ]
    sparse = pax(b"22 GNU.sparse.major=1\n") + header("sparse.jpg", 4) + padded(b"data") + header("b.jpg") + END
    assert [(member.name, member.type) for member in read_members(sparse)] == [
        ("sparse.jpg", "sparse file"),
        ("b.jpg", "file"),
    ]


def test_a_pax_size_and_a_binary_size_replace_the_octal_one() -> None:
    data = pax(b"9 size=5\n") + header("a.jpg", 0) + padded(b"image")
    data += header("b.jpg", size_field=b"\x80" + (5).to_bytes(11, "big")) + padded(b"image") + END
    assert [member.byte_range[1] for member in read_members(data)] == [5, 5]


HOSTILE = {
    "a size that leads back": header("b.jpg", size_field=b"\xff" + (-2048).to_bytes(11, "big", signed=True)),
    "a pax size that leads back": pax(b"14 size=-2048\n") + header("b.jpg"),
    "a pax size of many digits": pax(b"1010 size=" + b"9" * 999 + b"\n") + header("b.jpg"),
    "a name of 2 GB": header("name", 2 << 30, b"L"),
    "a link name of 2 GB": header("name", 2 << 30, b"K"),
    "a pax header of 2 GB": header("pax", 2 << 30, b"x"),
    "a pax header of digits": pax(b"1" * 200_000),
    "a pax header of spaces": pax(b" " * 200_000),
    "a pax record of length 0": pax(b"0 path=a\n"),
    "a pax record that is longer than the header": pax(b"999 path=a\n"),
    "a pax record without a line feed": pax(b"9 path=ab"),
    "a pax record without a key": pax(b"8 abcde\n"),
    "an extended header at the end": pax(b"9 path=a\n"),
    "a size that is no number": header("b.jpg", size_field=b"12345678x\0\0\0"),
    "a size larger than the file": header("b.jpg", 1 << 40),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_header_is_damage_in_bounded_memory(attack: str) -> None:
    data = header("a.jpg", 5) + padded(b"image") + HOSTILE[attack] + END
    tracemalloc.start()
    try:
        members = iter_members(io.BufferedReader(io.BytesIO(data)), 1 << 60 if "2 GB" in attack else len(data))  # type: ignore[arg-type]
        assert next(members).name == "a.jpg"
        with pytest.raises(DamageFound):
            list(members)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_HEADER_BYTES + len(data)
    finally:
        tracemalloc.stop()


def test_the_name_of_a_sparse_file_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(header("name", 2 << 30, b"L"))
        file.truncate(3 << 30)
    with path.open("rb") as file, pytest.raises(DamageFound, match=r"2,147,483,648 bytes, more than 1,048,576"):
        list(iter_members(file, 3 << 30))
