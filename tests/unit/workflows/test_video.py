"""From videos to search: rows of frames, ranges of hits, thumbnails and a second run."""

import json

import numpy as np
import pytest

pytest.importorskip("av")

from tests.unit.data.video_files import plain_frames, write_video

from zebra.search.video_ranges import merge_video_hits
from zebra.store import Store
from zebra.values import Hit
from zebra.workflows.search import open_searcher


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a clip.mp4", plain_frames(20))
    (folder / "damaged.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("x")
    return folder


def read_rows(store, *columns):
    return [row for batch in Store.open(store).scan(list(columns)) for row in batch.to_pylist()]


def test_frames_of_videos_are_embedded_and_found_by_time(cli, model, videos, tmp_path):
    command = ("embed", model, videos, "--out", "store", "--frames", "2/s", "--json")
    first = json.loads(cli(*command).out)
    assert (first["embedded"] + first["reused"], first["skipped"]) == (16, {"damaged video": 1})
    assert first["columns"] == ["video", "time"]
    skipped = json.loads((tmp_path / "store" / "skipped.jsonl").read_text())
    assert skipped["id"] == str(videos.resolve() / "damaged.mp4")
    second = json.loads(cli(*command).out)
    assert (second["embedded"], second["unchanged"], second["finished"]) == (0, 16, True)
    rows = read_rows(tmp_path / "store", "path", "video", "time", "width", "thumbnail")
    assert sorted(row["time"] for row in rows) == [index / 2 for index in range(16)]
    assert {(row["path"], row["video"], row["width"]) for row in rows} == {
        (str(videos.resolve() / "a clip.mp4"), "a clip.mp4", 96)
    }
    assert all(row["thumbnail"].startswith(b"\xff\xd8") for row in rows)

    listed = cli("search", "store", "--where", 'video = "a clip.mp4" and time >= 7', cwd=tmp_path).out.splitlines()
    assert sorted(line.rpartition("/")[2] for line in listed) == ["a clip.mp4 @ 0:07", "a clip.mp4 @ 0:07.5"]
    merged = cli("search", "store", "a horse", "-k", "16", cwd=tmp_path).out.splitlines()
    assert len(merged) == 1
    assert merged[0].endswith("a clip.mp4 @ 0:00–0:07.5  (16 frames)")
    document = json.loads(cli("search", "store", "a horse", "-k", "16", "--json", cwd=tmp_path).out)
    assert len(document["hits"]) == 16
    assert document["hits"][0]["video"] == "a clip.mp4"


def test_the_original_of_a_frame_is_read_from_the_video(cli, model, videos, tmp_path):
    cli("embed", model, videos / "a clip.mp4", "--out", "store", "--frames", "scenes")
    searcher = open_searcher(tmp_path / "store")
    rows = read_rows(tmp_path / "store", "id")
    assert len(rows) == 4
    for row in rows:
        image = searcher.read_image(row["id"])
        assert image is not None
        assert image.media_type == "image/jpeg"


def hit(score, path, time):
    location = path if time is None else f"{path} @ 0:{time:02g}"
    return Hit(f"{path}{time}", score, {"path": path, "location": location, "time": time})


def test_neighboring_hits_of_a_video_are_one_range_in_the_order_of_the_best():
    hits = [
        hit(0.9, "b.jpg", None),
        hit(0.8, "v.mp4", 12.0),
        hit(0.7, "w.mp4", 11.0),
        hit(0.6, "v.mp4", 30.0),
        hit(0.5, "v.mp4", 10.0),
        hit(0.4, "v.mp4", 14.0),
        hit(0.3, "v.mp4", 16.5),
    ]
    ranges = merge_video_hits(hits)
    assert [(r.best.score, r.num_hits, r.path) for r in ranges] == [
        (0.9, 1, None),
        (0.8, 3, "v.mp4 @ 0:10–0:14"),
        (0.7, 1, None),
        (0.6, 1, None),
        (0.3, 1, None),
    ]


def test_a_column_time_of_images_merges_nothing():
    rows = [{"path": f"{name}.jpg", "location": f"{name}.jpg", "time": 1.0} for name in "ab"]
    hits = [Hit(str(index), 0.5, row) for index, row in enumerate(rows)]
    assert [r.num_hits for r in merge_video_hits(hits)] == [1, 1]
    assert merge_video_hits([]) == []


def test_images_and_videos_share_a_store(cli, model, videos, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    cli("embed", model, "photos", "--out", "store")
    cli("embed", model, videos, "--out", "store", "--frames", "scenes")
    cli("embed", model, "photos", "--out", "store")
    assert sorted(str(row["time"]) for row in read_rows(tmp_path / "store", "time")) == [
        "0.0",
        "2.0",
        "4.0",
        "6.0",
        "None",
    ]


@pytest.mark.parametrize(
    ("data", "args", "message"),
    [
        (".", (), "add --frames 1/s"),
        ("a clip.mp4", (), "add --frames 1/s"),
        ("notes.txt", ("--frames", "1/s"), "has no videos"),
        ("damaged.mp4", ("--frames", "1/s"), "damaged video"),
    ],
)
def test_a_message_says_what_to_do(cli, model, videos, data, args, message):
    assert message in cli("embed", model, videos / data, "--out", "store", *args, code=1).err


def test_an_invalid_rate_is_wrong_usage(cli, model, videos):
    assert "write a rate such as" in " ".join(
        cli("embed", model, videos, "--out", "s", "--frames", "fast", code=2).err.split()
    )
