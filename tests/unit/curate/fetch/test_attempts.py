"""A record survives an interruption at any byte."""

import subprocess
import sys
from hashlib import sha256

import pytest

from zebra.curate.fetch.attempts import ATTEMPTS_FILE, IMAGES_FILE, AttemptLog, read_fetched
from zebra.curate.fetch.outcome import FetchedImage
from zebra.errors import DataError

IMAGES = {f"http://site.test/{number}": bytes([number]) * (number + 1) for number in range(4)}


def write(folder, urls=tuple(IMAGES)):
    log = AttemptLog(folder)
    for url in urls:
        data = IMAGES[url]
        log.add(FetchedImage(url=url, status="kept", num_bytes=len(data), sha256=sha256(data).digest()), data)
    log.close()


def read(folder):
    log = AttemptLog(folder)
    images = {url: image for url in IMAGES if (image := log.get(url)) is not None}
    log.close()
    return {url: read_fetched(folder, image) for url, image in images.items()}


@pytest.mark.parametrize("name", [ATTEMPTS_FILE, IMAGES_FILE])
def test_a_file_that_is_cut_anywhere_loses_the_last_images_only(tmp_path, name):
    write(tmp_path / "log")
    files = {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}
    for size in range(0, len(files[name]), len(files[name]) // 9):
        for path in (tmp_path / "log").iterdir():
            path.write_bytes(files[path.name][: size if path.name == name else None])
        images = read(tmp_path / "log")
        assert images == dict(list(IMAGES.items())[: len(images)])
        write(tmp_path / "log", [url for url in IMAGES if url not in images])
        assert read(tmp_path / "log") == IMAGES


def test_the_last_outcome_of_a_url_counts(tmp_path):
    log = AttemptLog(tmp_path)
    log.add(FetchedImage(url="http://site.test/0", status="passing", reason="HTTP status 503"))
    log.close()
    write(tmp_path)
    assert read(tmp_path) == IMAGES


def test_any_text_can_be_a_url(tmp_path):
    log = AttemptLog(tmp_path)
    urls = ["", "\ud800", "a\nb\0", "ü" * 100_000]
    for url in urls:
        log.add(FetchedImage(url=url, status="permanent", reason="malformed address", detail=url[:10]))
    log.close()
    log = AttemptLog(tmp_path)
    assert [log.get(url).url for url in urls] == urls
    assert log.get("ü") is None
    log.close()


def test_two_runs_never_write_to_one_folder(tmp_path):
    log = AttemptLog(tmp_path)
    with pytest.raises(DataError, match="in use"):
        AttemptLog(tmp_path)
    log.close()
    AttemptLog(tmp_path).close()


def test_damaged_bytes_are_noticed(tmp_path):
    write(tmp_path)
    log = AttemptLog(tmp_path)
    image = log.get("http://site.test/1")
    log.close()
    (tmp_path / IMAGES_FILE).write_bytes(b"\xff" * 10)
    with pytest.raises(DataError, match="is damaged at byte 1"):
        read_fetched(tmp_path, image)


PROGRAM = """
import sys, pathlib
from zebra.config.fetch import FetchConfig
from zebra.curate.fetch.fetcher import Fetcher
with Fetcher(FetchConfig(allow_private=True, max_connections=2)) as fetcher:
    for image in fetcher.fetch(sys.argv[2:], pathlib.Path(sys.argv[1])):
        print(image.status, flush=True)
"""


def test_a_killed_download_continues_and_repeats_no_finished_request(server, fetch, tmp_path):
    urls = [server.url("ok", 100 + number, host=12) for number in range(60)]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "images"), *urls], stdout=subprocess.PIPE, text=True
    )
    finished = [process.stdout.readline() for _ in range(5)]
    process.kill()
    process.communicate()
    assert finished == ["kept\n"] * 5
    before = sum(server.requests[f"/ok/{100 + number}.jpg"] for number in range(60))
    images = fetch(urls)
    assert {image.status for image in images.values()} == {"kept"}
    assert [read_fetched(tmp_path / "images", images[url]) for url in urls] == [
        server.images[(100 + number) % len(server.images)] for number in range(60)
    ]
    after = sum(server.requests[f"/ok/{100 + number}.jpg"] for number in range(60))
    assert after - before <= 60 - 5
    assert after <= 60 + 2  # one on each connection was not recorded
