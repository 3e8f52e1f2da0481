"""Only regular files are opened: a named pipe, device or socket is an error at once."""

import os
import socket
from pathlib import Path

import pytest

from zebra.data.regular_files import open_regular_file, read_regular_file


@pytest.fixture(params=["named pipe", "device", "socket", "folder", "link to a device"])
def special_file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "a.jpg"
    match request.param:
        case "named pipe":
            os.mkfifo(path)
        case "device":
            return Path("/dev/zero")
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "socket":
            monkeypatch.chdir(tmp_path)  # the path of a socket is limited to 108 bytes
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("a.jpg")
    return path


def test_a_special_file_is_an_error_that_names_its_type(special_file: Path) -> None:
    for read in (read_regular_file, open_regular_file):
        with pytest.raises(OSError, match="not a regular file"):
            read(special_file)


def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.raises(OSError, match=r"symbolic link|Symlink"):
        read_regular_file(tmp_path / "a.jpg")


def test_the_bytes_of_a_file_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for data in (b"", b"x", bytes(range(256)) * 1000):
        path.write_bytes(data)
        assert read_regular_file(path) == data
        with open_regular_file(path) as file:
            assert file.read() == data


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(OSError, match=r"1,099,511,627,776 bytes are more than the maximum of 1,073,741,824"):
        read_regular_file(path)
