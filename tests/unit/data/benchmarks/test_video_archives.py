"""Short videos in the layouts of UCF101 and Kinetics."""

import numpy as np
import pytest
from tests.unit.data.video_files import write_video

from zebra.data.benchmarks.catalog import find_catalog_entry, read_catalog_dataset
from zebra.errors import DataError

LINES = {
    "trainlist01.txt": ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1", "YoYo/v_YoYo_g08_c01.avi 2"),
    "testlist01.txt": ("YoYo/v_YoYo_g01_c01.avi", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"),
    "trainlist02.txt": ("YoYo/v_YoYo_g01_c01.avi 2", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1"),
    "testlist02.txt": ("YoYo/v_YoYo_g08_c01.avi", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"),
}


def write_clip(path, gray):
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    return write_video(path, [np.full((32, 32, 3), gray, np.uint8)] * 4, codec=codec)


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory):
    root = tmp_path_factory.mktemp("ucf101")
    (root / "ucfTrainTestlist").mkdir()
    for name, lines in LINES.items():
        (root / "ucfTrainTestlist" / name).write_text("".join(f"{line}\r\n" for line in lines))
    for number, line in enumerate((*LINES["trainlist01.txt"], *LINES["testlist01.txt"])):
        write_clip(root / "UCF-101" / line.split()[0], 40 * number + 20)
    return root


def read(name, root, split="test"):
    return read_catalog_dataset(find_catalog_entry(name), root, split)


def test_ucf101_is_read_with_its_official_lists(ucf101):
    benchmark = read("ucf101", ucf101)
    assert benchmark.classnames == ("Apply Eye Makeup", "Yo Yo")
    assert list(benchmark.source.labels) == [1, 0]
    assert benchmark.source.sample_id(0) == "YoYo/v_YoYo_g01_c01.avi"
    assert benchmark.source.read(1).image[:2] == b"\xff\xd8"
    assert list(read("ucf101", ucf101, "train").source.labels) == [0, 1]


def test_each_split_of_ucf101_has_its_own_training_videos(ucf101):
    train, test = (set(read("ucf101_split2", ucf101, split).source.ids) for split in ("train", "test"))
    assert train == set(read("ucf101", ucf101).source.ids)
    assert not train & test


@pytest.fixture
def kinetics(tmp_path):
    root = tmp_path / "k700-2020"
    (root / "annotations").mkdir(parents=True)
    header = "label,youtube_id,time_start,time_end,split\n"
    (root / "annotations" / "train.csv").write_text(f"{header}zumba,-0aaaaaaaaa,0,10,train\n")
    rows = ("abseiling,00000000000,84,94,validate", "zumba,bbbbbbbbbbb,7,17,validate", "zumba,gone,1,11,validate")
    (root / "annotations" / "val.csv").write_text(header + "\n".join(rows))
    write_clip(root / "val" / "00000000000_000084_000094.mp4", 20)
    write_clip(root / "val" / "zumba" / "bbbbbbbbbbb_000007_000017.mkv", 60)
    return tmp_path


def test_kinetics_is_read_with_its_annotations_and_absent_clips_are_counted(kinetics):
    benchmark = read("kinetics700", kinetics)
    assert benchmark.metric == "mean_top1_top5"
    assert benchmark.classnames == ("abseiling", "zumba")
    assert list(benchmark.source.ids) == [
        "val/00000000000_000084_000094.mp4",
        "val/zumba/bbbbbbbbbbb_000007_000017.mkv",
    ]
    assert list(benchmark.source.labels) == [0, 1]
    assert any("1 of 3 clips are not on disk" in note for note in benchmark.notes)


def test_kinetics_without_any_clip_is_an_error(kinetics):
    with pytest.raises(DataError, match=r"none of the 1 videos of train\.csv"):
        read("kinetics700", kinetics, "train")


def test_a_damaged_annotation_is_named(kinetics):
    path = kinetics / "k700-2020" / "annotations" / "val.csv"
    path.write_text(path.read_text().replace("84", "soon"))
    with pytest.raises(DataError, match=r"val\.csv:2 does not give the path"):
        read("kinetics700", kinetics)
    path.write_text("label,youtube\nzumba,a\n")
    with pytest.raises(DataError, match="does not give the path"):
        read("kinetics700", kinetics)
    path.write_text("name,youtube_id\nzumba,a\n")
    with pytest.raises(DataError, match="no column 'label'"):
        read("kinetics700", kinetics)
