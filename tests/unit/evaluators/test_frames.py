"""Videos are evaluated by their middle frame, or by the mean of the vectors of their frames."""

import numpy as np
import pytest
from tests.unit.data.video_files import plain_frames, write_video

import zebra
from zebra.config.evaluate import EvaluateConfig
from zebra.data.video_clips import VideoClip, list_frame_times, read_frames_at, read_middle_frame
from zebra.errors import ConfigError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.embeddings import embed_features_and_vectors, embed_source
from zebra.evaluators.frames import select_frames
from zebra.workflows import evaluate

NAMES = ("first", "second")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Write two videos of changing colors as UCF101 has them."""
    root = tmp_path_factory.mktemp("videos")
    (root / "ucfTrainTestlist").mkdir()
    for split in ("train", "test"):
        lines = [f"{name.title()}/v_{split}.avi" for name in NAMES]
        (root / "ucfTrainTestlist" / f"{split}list01.txt").write_text("\n".join(lines))
        for number, line in enumerate(lines):
            path = root / "UCF-101" / line
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, plain_frames(2)[number:], codec="mpeg4")
    (root / "UCF-101" / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    return root


def test_the_vector_of_a_video_is_the_mean_of_those_of_its_frames(model, videos):
    clip = zebra.load(model)
    benchmark = select_frames(load_dataset("ucf101", data_root=videos), "all")
    embeddings = embed_source(clip, benchmark.source)
    clips = [VideoClip(videos / "UCF-101" / id) for id in benchmark.source.ids]
    for row, video in zip(embeddings.vectors, clips, strict=True):
        frames = clip.encode_images(read_frames_at(video.path, list_frame_times(video, "all"))).numpy()
        mean = frames.mean(axis=0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert embeddings.ids == tuple(benchmark.source.ids)
    assert embeddings.labels.tolist() == [0, 1]
    features, vectors = embed_features_and_vectors(clip, benchmark.source)
    assert vectors.vectors == pytest.approx(embeddings.vectors, abs=1e-5)
    frames = clip.encode_images(read_frames_at(clips[0].path, list_frame_times(clips[0], "all")), projected=False)
    assert features.vectors[0] == pytest.approx(frames.numpy().mean(axis=0), abs=1e-4)


def test_by_default_a_video_is_its_middle_frame(model, videos):
    clip = zebra.load(model)
    source = load_dataset("ucf101", data_root=videos).source
    frames = [read_middle_frame(VideoClip(videos / "UCF-101" / id)) for id in source.ids]
    assert embed_source(clip, source).vectors == pytest.approx(clip.encode_images(frames).numpy(), abs=1e-5)


def test_an_evaluation_of_videos_notes_which_frames_it_took(model, videos, tmp_path):
    progress = []
    config = EvaluateConfig(
        model=str(model), datasets=("ucf101",), out=str(tmp_path / "out"), data_root=str(videos), frames="5/s"
    )
    results = []
    evaluate.run(config, callback=results.append, progress=lambda done, total, _name: progress.append((done, total)))
    assert any("mean of the vectors of its frames (5/s)" in note for note in results[0].notes)
    assert results[0].scores["top1"].n == 2
    assert progress[-1] == (8, 8)  # the frames of both videos
    assert (tmp_path / "out" / "report.html").exists()


def test_frames_of_clips_are_middle_all_or_a_rate():
    for frames in ("scenes", "fast"):
        with pytest.raises(ConfigError, match="frames is"):
            EvaluateConfig(model="m", datasets=("d",), out="o", frames=frames)
