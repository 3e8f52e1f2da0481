"""Frames of videos: rates, scenes, odd files, and what is counted."""

import contextlib
import io
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

from zebra.config.frames import seconds_between_frames
from zebra.data import video_frames
from zebra.data.video_frames import format_time, iter_frames, parse_time, read_duration, read_frame
from zebra.data.videos import VideoSource
from zebra.errors import BadSample, ConfigError, DataError, MissingExtra

from .video_files import COLORS, plain_frames, set_duration, set_rotation, write_sound, write_video

CODECS = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "mov": "mpeg4"}


def times(path, frames):
    return [frame.seconds for frame in iter_frames(path, seconds_between_frames(frames))]


def reason(path, frames="1/s"):
    """Return how many frames come before the error, and its reason."""
    count = 0
    with pytest.raises(BadSample) as caught:
        for _ in iter_frames(path, seconds_between_frames(frames)):
            count += 1
    assert caught.value.location == str(path)
    return count, caught.value.reason


def decode(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Eight seconds, a color for each two."""
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", plain_frames(20))


@pytest.mark.parametrize("suffix", CODECS)
def test_frames_are_taken_at_a_rate_and_at_changes_of_scene(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", plain_frames(20), codec=CODECS[suffix])
    assert times(path, "1/s") == [0, 1, 2, 3, 4, 5, 6, 7]
    assert times(path, "2/s") == [index / 2 for index in range(16)]
    assert times(path, "1/3s") == [0, 3, 6]
    assert times(path, "1/min") == [0]
    assert times(path, "scenes") == [0, 2, 4, 6]
    for frame, color in zip(iter_frames(path, None), COLORS, strict=True):
        assert np.abs(decode(frame.jpeg)[32, 60] - color).max() < 12


@pytest.mark.parametrize("frames", ["3/s", "1/6s", "scenes"])
def test_a_frame_is_read_again_by_its_time(clip, frames):
    found = list(iter_frames(clip, seconds_between_frames(frames)))
    assert len(found) > 1
    assert all(read_frame(clip, frame.seconds) == frame.jpeg for frame in found)
    assert read_frame(clip, 3.017) is None
    assert read_frame(clip, 4000.0) is None


def test_a_frame_that_is_shown_for_long_is_taken_once(tmp_path):
    path = write_video(tmp_path / "slides.mkv", plain_frames(1), [0.0, 0.3, 7.25, 60.0])
    assert times(path, "1/s") == [0.0, 7.25, 60.0]
    assert times(path, "5/s") == [0.0, 0.3, 7.25, 60.0]
    assert times(path, "1/30s") == [0.0, 60.0]


def test_ten_hours_are_sampled_without_decoding_them(tmp_path, monkeypatch):
    seconds = np.arange(0, 36_000, 20.0)
    frames = plain_frames(len(seconds) // 4, (32, 32))
    path = write_video(tmp_path / "long.mp4", frames, seconds.tolist(), rate=30)
    assert read_duration(path) > 35_900
    decoded, wants = [], video_frames._RateSelector.wants

    def count(selector, frame, at):
        decoded.append(at)
        return wants(selector, frame, at)

    monkeypatch.setattr(video_frames._RateSelector, "wants", count)
    assert times(path, "1/h") == [3600.0 * hour for hour in range(10)]
    assert 10 <= len(decoded) < 0.3 * len(seconds)


def test_a_rotated_video_is_turned_upright(tmp_path):
    path = write_video(tmp_path / "phone.mp4", plain_frames(5))
    upright = decode(next(iter_frames(path, 1.0)).jpeg)
    set_rotation(path)
    turned = decode(next(iter_frames(path, 1.0)).jpeg)
    assert upright.shape == (64, 96, 3)
    assert turned.shape == (96, 64, 3)
    assert upright[4, 4].max() < 30  # the black corner, at the upper left
    assert turned[4, -5].max() < 30  # turned clockwise, at the upper right
    assert turned[4, 4].max() > 150


def test_large_frames_are_scaled_down_and_small_ones_kept(tmp_path):
    path = write_video(tmp_path / "large.mp4", plain_frames(1, (1280, 720))[:1])
    assert decode(next(iter_frames(path, 1.0)).jpeg).shape == (512, 910, 3)
    path = write_video(tmp_path / "small.mp4", plain_frames(1, (34, 18))[:1])
    assert decode(next(iter_frames(path, 1.0)).jpeg).shape == (18, 34, 3)


def test_files_without_usable_frames_have_a_reason(tmp_path, clip):
    assert reason(write_sound(tmp_path / "sound.mp4")) == (0, "no video stream")
    for name, data in {
        "empty.mp4": b"",
        "text.mkv": b"not a video at all\n" * 100,
        "headless.mp4": clip.read_bytes()[:3000],
        "playlist.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:8,\n{clip}\n#EXT-X-ENDLIST\n".encode(),
        "list.mkv": f"ffconcat version 1.0\nfile '{clip}'\n".encode(),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert reason(tmp_path / name) == (0, "damaged video"), name
    assert reason(tmp_path / "gone.mp4") == (0, "damaged video")


def test_a_container_without_frames_has_a_reason(tmp_path):
    path = write_video(tmp_path / "a.mkv", plain_frames(1))
    data = path.read_bytes()
    (tmp_path / "none.mkv").write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # the first cluster of frames
    count, found = reason(tmp_path / "none.mkv")
    assert (count, found) in [(0, "video without frames"), (0, "damaged video")]


def test_a_truncated_video_keeps_its_frames_and_counts_the_rest(tmp_path):
    path = write_video(tmp_path / "a.mkv", noise_frames(80))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count, found = reason(path)
    assert 2 <= count <= 6
    assert found in ("video ends before its duration", "damaged frames in a video")


def test_damage_in_the_middle_does_not_end_a_video(tmp_path):
    path = write_video(tmp_path / "a.avi", noise_frames(80), codec="mpeg4")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    found = []
    with contextlib.suppress(BadSample):  # whether the decoder reports the damage is up to FFmpeg
        for frame in iter_frames(path, 1.0):
            found.append(frame.seconds)  # noqa: PERF401  # what comes before the error counts
    assert found[-1] >= 6


def noise_frames(count):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, 48, 64, 3), dtype=np.uint8))


def test_a_false_duration_changes_the_estimate_only(tmp_path):
    path = write_video(tmp_path / "a.mkv", plain_frames(20))
    set_duration(path, 36_000)
    assert read_duration(path) == pytest.approx(36_000)
    source = VideoSource(path, "1/s")
    assert source.num_images() > 30_000
    refs = list(source.scan())
    assert [ref.load().columns["time"] for ref in refs[:-1]] == [0, 1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(BadSample, match="video ends before its duration"):
        refs[-1].load()


def test_a_source_lists_the_videos_of_a_folder(tmp_path, clip):
    (tmp_path / "sub").mkdir()
    for name in ("b.mp4", "sub/a.MP4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    for name in ("damaged.mov", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).write_text("x")
    source = VideoSource(tmp_path, "scenes")
    refs = list(source.scan())
    names = [ref.location.key.removeprefix(f"{tmp_path.resolve()}/") for ref in refs]
    assert names == [
        *(f"b.mp4 @ 0:0{second}" for second in (0, 2, 4, 6)),
        "damaged.mov",
        *(f"sub/a.MP4 @ 0:0{second}" for second in (0, 2, 4, 6)),
    ]
    assert {entry.reason: entry.count for entry in source.ignored} == {".txt": 1, "hidden": 1}
    assert refs[-1].load().columns == {"video": "sub/a.MP4", "time": 6.0}
    assert refs[-1].location.path == str(tmp_path.resolve() / "sub" / "a.MP4")
    with pytest.raises(BadSample, match="damaged video"):
        refs[4].load()
    assert source.num_images() == 1 + 2 * 2


@pytest.mark.parametrize(
    ("name", "message"), [("gone", "no video or folder"), ("", "has no videos"), ("a.txt", "has no")]
)
def test_data_without_videos_is_refused(tmp_path, name, message):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=message):
        VideoSource(tmp_path / name, "1/s")


def test_without_pyav_the_message_has_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r'pip install "zebra-clip\[video\]"'):
        VideoSource(tmp_path, "1/s")


@pytest.mark.parametrize("frames", ["", "1", "s", "1/", "0/s", "1/0s", "-1/s", "1/day", "scene", "1000/s", "nan/s"])
def test_other_rates_are_refused(frames):
    with pytest.raises(ConfigError, match="write a rate such as"):
        seconds_between_frames(frames)


@pytest.mark.parametrize("seconds", [0, 0.04, 12.5, 59.999, 60, 3599.5, 3600, 36_000.25])
def test_a_time_is_read_as_it_was_written(seconds):
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=1e-9)
