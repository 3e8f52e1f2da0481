"""Clips of videos: the middle frame, and frames whose vectors are averaged."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.unit.data.video_files import plain_frames, write_sound, write_video

from zebra.data.video_clips import VideoClip, list_frame_times, open_clips, read_frames_at, read_middle_frame
from zebra.errors import BadSample, DataError


def gray_video(path, num_frames, rate=10, **kwargs):
    """Write a video whose frame i has the gray value 8 i + 20."""
    frames = [np.full((48, 64, 3), 8 * index + 20, np.uint8) for index in range(num_frames)]
    return write_video(path, frames, rate=rate, **kwargs)


def number(jpeg):
    """Return the number of a frame of `gray_video`."""
    return round((np.asarray(Image.open(io.BytesIO(jpeg))).mean() - 20) / 8)


@pytest.mark.parametrize(("num_frames", "suffix"), [(1, "mp4"), (2, "mp4"), (7, "mp4"), (8, "avi"), (25, "mkv")])
def test_the_middle_frame_of_n_is_the_frame_n_over_2(tmp_path, num_frames, suffix):
    video = gray_video(tmp_path / f"a.{suffix}", num_frames, codec="mpeg4" if suffix == "avi" else "libx264")
    assert number(read_middle_frame(VideoClip(video))) == num_frames // 2


def test_the_middle_of_a_segment_is_between_its_times(tmp_path):
    video = gray_video(tmp_path / "a.mp4", 28)  # 2.8 seconds
    assert number(read_middle_frame(VideoClip(video, 1.0, 2.0))) == 15
    assert number(read_middle_frame(VideoClip(video, 0.0, 0.4))) == 2


def test_all_frames_of_a_clip_are_read_once(tmp_path):
    video = gray_video(tmp_path / "a.mp4", 12)
    assert [number(jpeg) for jpeg in read_frames_at(video, list_frame_times(VideoClip(video), "all"))] == [*range(12)]
    segment = VideoClip(video, 0.5, 0.8)
    assert [number(jpeg) for jpeg in read_frames_at(video, list_frame_times(segment, "all"))] == [5, 6, 7]


def test_frames_at_a_rate_begin_with_the_clip(tmp_path):
    video = gray_video(tmp_path / "a.mp4", 25)
    times = list_frame_times(VideoClip(video), "2/s")
    assert times == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert [number(jpeg) for jpeg in read_frames_at(video, times)] == [0, 5, 10, 15, 20]
    assert list_frame_times(VideoClip(video, 1.0, 1.2), "1/s") == [1.0]


def test_a_frame_that_is_shown_for_long_counts_for_its_time(tmp_path):
    """A variable rate: red for 2 s, then three colors for 0.2 s each."""
    frames = plain_frames(1)
    video = write_video(tmp_path / "a.mp4", frames, [0.0, 2.0, 2.2, 2.4])
    reds = [
        np.asarray(Image.open(io.BytesIO(jpeg)))[-1, -1, 0] > 150 for jpeg in read_frames_at(video, [0, 1, 1.9, 2.1])
    ]
    assert reds == [True, True, True, False]


def test_clips_with_averaged_frames_are_split_into_images(tmp_path):
    names = {"long.mp4": 10, "short.mp4": 3}
    clips = [VideoClip(gray_video(tmp_path / name, count)) for name, count in names.items()]
    source = open_clips(tmp_path, clips, [4, 2])
    assert (len(source), source.sample_id(1), source.read(0).label) == (2, "short.mp4", 4)
    averaged = source.select_frames("all")
    images, sample_M = averaged.split_frames()
    assert sample_M.tolist() == [0] * 10 + [1] * 3
    assert [number(images.read(index).image) for index in range(13)] == [*range(10), *range(3)]
    assert {images.read(index).label for index in range(10)} == {4}
    assert len({images.sample_id(index) for index in range(13)}) == 13
    assert number(images.read(2).image) == 2  # an earlier clip again
    assert len({source.digest, averaged.digest, images.digest, source.select_frames("1/s").digest}) == 4
    assert averaged.select_frames("middle").digest == source.digest


def test_videos_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(b"nothing")
    with pytest.raises(BadSample, match="damaged video"):
        read_middle_frame(VideoClip(tmp_path / "damaged.mp4"))
    with pytest.raises(BadSample, match="no video stream"):
        read_middle_frame(VideoClip(write_sound(tmp_path / "sound.mp4")))
    with pytest.raises(DataError, match=r"absent\.mp4 cannot be read"):
        open_clips(tmp_path, [VideoClip(tmp_path / "absent.mp4")])
