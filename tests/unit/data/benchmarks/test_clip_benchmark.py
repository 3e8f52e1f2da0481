"""A CLIP_benchmark folder is read completely or not at all."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.data.benchmarks.clip_benchmark import (
    list_splits,
    read_classification,
    read_clip_benchmark,
    read_multilabel,
    read_retrieval,
)
from zebra.data.benchmarks.writer import write_classification, write_multilabel, write_retrieval
from zebra.data.shard_writer import ShardWriter
from zebra.errors import BadSample, DataError

NAMES, TEMPLATES = ("cat", "striped horse"), ("a photo of a {c}.", "{c}")


@pytest.fixture
def folder(tmp_path: Path, make_image) -> Path:
    """Five images in three shards."""
    path = tmp_path / "pets"
    samples = [(make_image(i, "PNG"), "png", i % 2) for i in range(5)]
    write_classification(path, samples, NAMES, TEMPLATES, samples_per_shard=2)
    return path


def test_written_records_are_read_back(folder: Path, make_image) -> None:
    benchmark = read_classification(folder)
    assert (benchmark.name, benchmark.classnames, benchmark.templates) == ("pets", NAMES, TEMPLATES)
    records = [benchmark.source.read(i) for i in range(len(benchmark.source))]
    assert [record.label for record in records] == [0, 1, 0, 1, 0]
    assert [record.image for record in records] == [make_image(i, "PNG") for i in range(5)]


def test_the_layout_is_that_of_clip_benchmark(folder: Path) -> None:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "classnames.txt",
        "test/0.tar",
        "test/1.tar",
        "test/2.tar",
        "test/nshards.txt",
        "zeroshot_classification_templates.txt",
    ]
    assert (folder / "test" / "nshards.txt").read_text() == "3\n"
    assert (folder / "classnames.txt").read_text() == "cat\nstriped horse\n"


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_classification(
        tmp_path / "s", [(b"x", "png", i) for i in range(12)], list("abcdefghijkl"), ["{c}"], "train", 1
    )
    source = read_classification(tmp_path / "s", "train").source
    assert [source.read(i).label for i in range(12)] == list(range(12))


def test_a_missing_shard_is_an_error(folder: Path) -> None:
    (folder / "test" / "1.tar").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 3 shards .*1\.tar"):
        read_classification(folder)


@pytest.mark.parametrize("name", ["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"])
def test_each_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        read_classification(folder)


def test_a_missing_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path / "nowhere")):
        read_classification(Path("nowhere"))


def test_a_label_without_a_class_is_an_error(folder: Path) -> None:
    (folder / "classnames.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"label 1.*has 1 class names"):
        read_classification(folder)


@pytest.mark.parametrize("count", ["0", "three", "-1"])
def test_an_invalid_number_of_shards_is_an_error(folder: Path, count: str) -> None:
    (folder / "test" / "nshards.txt").write_text(count)
    with pytest.raises(DataError, match="number of shards"):
        read_classification(folder)


def test_templates_with_either_placeholder_are_read_and_others_refused(folder: Path) -> None:
    path = folder / "zeroshot_classification_templates.txt"
    path.write_text("a {}\na {c}\n")
    assert read_classification(folder).templates == ("a {}", "a {c}")
    path.write_text("a {class}\n")
    with pytest.raises(DataError, match=r"no \{c\}"):
        read_classification(folder)


def test_an_empty_line_among_class_names_is_an_error_since_it_would_shift_labels(folder: Path) -> None:
    (folder / "classnames.txt").write_text("cat\n\nhorse\n")
    with pytest.raises(DataError, match=r"classnames\.txt:2"):
        read_classification(folder)


@pytest.mark.parametrize("names", [["near", "", "far"], ["", "near", "far"], ["", "", "far"]])
def test_an_empty_class_name_is_kept_if_the_labels_need_every_line(tmp_path: Path, names: list[str]) -> None:
    write_classification(tmp_path / "s", [(b"x", "png", label) for label in range(3)], names, ["{c} shapes."])
    assert read_classification(tmp_path / "s").classnames == tuple(names)


def test_an_empty_class_name_of_a_multilabel_dataset_is_kept(tmp_path: Path) -> None:
    write_multilabel(tmp_path / "s", [(b"x", "png", np.array([True, False, True]))], ["a", "", "b"], ["{c}"])
    assert read_multilabel(tmp_path / "s").classnames == ("a", "", "b")


def test_an_empty_name_at_the_end_is_not_written_since_readers_would_miss_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the last class name is empty"):
        write_classification(tmp_path / "s", [(b"x", "png", 0)], ["near", ""], ["{c}"])


def test_datasets_of_other_types_are_refused(folder: Path) -> None:
    (folder / "dataset_type.txt").write_text("retrieval\n")
    with pytest.raises(DataError, match="retrieval"):
        read_classification(folder)


def test_an_incomplete_dataset_is_not_read(tmp_path: Path) -> None:
    def interrupted():
        yield b"x", "png", 0
        raise KeyboardInterrupt

    write_classification(tmp_path / "s", [(b"x", "png", 0)] * 3, ["a"], ["{c}"])
    with pytest.raises(KeyboardInterrupt):
        write_classification(tmp_path / "s", interrupted(), ["a"], ["{c}"])
    with pytest.raises(DataError, match=r"nshards\.txt"):
        read_classification(tmp_path / "s")


@pytest.mark.parametrize(
    ("samples", "names", "templates"),
    [
        ([], ["a"], ["{c}"]),
        ([(b"x", "png", 1)], ["a"], ["{c}"]),
        ([(b"x", "png", -1)], ["a"], ["{c}"]),
        ([(b"x", "png", 0)], [], ["{c}"]),
        ([(b"x", "png", 0)], ["a\nb"], ["{c}"]),
        ([(b"x", "png", 0)], [" "], ["{c}"]),
        ([(b"x", "png", 0)], ["a"], ["a photo"]),
        ([(b"x", "png", 0)], ["a"], []),
    ],
)
def test_samples_that_the_format_cannot_store_are_not_written(tmp_path: Path, samples, names, templates) -> None:
    with pytest.raises(DataError):
        write_classification(tmp_path / "s", samples, names, templates)
    with pytest.raises(DataError):
        read_classification(tmp_path / "s")


# --- counting ---


def test_a_shard_that_the_count_leaves_out_is_an_error(folder: Path) -> None:
    (folder / "test" / "nshards.txt").write_text("2\n")
    with pytest.raises(DataError, match=r"has 2\.tar.*counts 2 shards"):
        read_classification(folder)


def test_a_dataset_written_over_a_larger_one_is_read_alone(folder: Path) -> None:
    write_classification(folder, [(b"x", "png", 1)], NAMES, TEMPLATES)
    assert len(read_classification(folder).source) == 1


def test_a_missing_split_is_an_error_that_lists_the_others(folder: Path) -> None:
    with pytest.raises(DataError, match=r"The available splits are test\."):
        read_classification(folder, "val")


def test_classes_without_an_image_are_noted(tmp_path: Path) -> None:
    write_classification(tmp_path / "s", [(b"x", "png", 1)], ["cat", "dog", "horse"], ["{c}"])
    assert read_classification(tmp_path / "s").notes == ("2 of 3 classes have no image here: cat, horse",)


def test_a_complete_dataset_has_no_notes(folder: Path) -> None:
    assert read_classification(folder).notes == ()


def test_an_image_without_a_label_is_an_error_that_names_it(folder: Path) -> None:
    with ShardWriter(folder / "test", num_digits=1) as writer:
        writer.write("s0", {"png": b"x", "cls": b"0"})
        writer.write("s1", {"png": b"x", "txt": b"a cat"})
    with pytest.raises(DataError, match=r"0\.tar/s1 has no number in \.cls"):
        read_classification(folder)


def test_a_split_with_other_classes_is_not_written(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has the split test with another classnames\.txt"):
        write_classification(folder, [(b"x", "png", 0)], ["cat", "dog"], TEMPLATES, "train")
    assert read_classification(folder).classnames == NAMES


def test_several_splits_are_read_separately(folder: Path) -> None:
    write_classification(folder, [(b"x", "png", 1)], NAMES, TEMPLATES, "train")
    assert list_splits(folder) == ["test", "train"]
    assert len(read_classification(folder).source) == 5


# --- several labels ---


@pytest.fixture
def multilabel(tmp_path: Path, make_image) -> Path:
    samples = [(make_image(i, "PNG"), "png", np.array([i == 1, i > 0, False])) for i in range(3)]
    write_multilabel(tmp_path / "m", samples, ["cat", "dog", "horse"], ["{c}"], samples_per_shard=2)
    return tmp_path / "m"


def test_multihot_labels_are_read_back_with_their_images(multilabel: Path, make_image) -> None:
    benchmark = read_clip_benchmark(multilabel)
    assert benchmark.labels_NC.tolist() == [[False] * 3, [True, True, False], [False, True, False]]
    read = [benchmark.source.read(i).image for i in range(3)]
    assert read == [make_image(i, "PNG") for i in range(3)]
    assert benchmark.notes == ("1 of 3 classes have no image here: horse",)


def test_a_multilabel_source_can_be_pickled(multilabel: Path) -> None:
    source = read_multilabel(multilabel).source
    assert pickle.loads(pickle.dumps(source)).read(2) == source.read(2)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.zeros(2), "shape"),
        (np.array([0, 1, 2]), "values other than"),
        (np.array([0, 1, np.nan]), "values other than"),
    ],
)
def test_vectors_that_do_not_match_the_classes_are_refused(multilabel: Path, vector, message: str) -> None:
    _put_vector(multilabel, vector)
    with pytest.raises(DataError, match=message):
        read_multilabel(multilabel)


def test_a_pickle_in_place_of_a_vector_is_not_opened(multilabel: Path) -> None:
    _put_vector(multilabel, np.array([print, print, print], dtype=object))
    with pytest.raises(DataError, match="is no array"):
        read_multilabel(multilabel)


def _put_vector(folder: Path, vector) -> None:
    buffer = io.BytesIO()
    np.save(buffer, vector, allow_pickle=True)
    with ShardWriter(folder / "test", num_digits=1) as writer:
        writer.write("s0", {"png": b"x", "npy": buffer.getvalue()})
    (folder / "test" / "1.tar").unlink(missing_ok=True)
    (folder / "test" / "nshards.txt").write_text("1")


def test_a_vector_of_another_length_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 classes"):
        write_multilabel(tmp_path / "m", [(b"x", "png", np.array([True]))], ["a", "b"], ["{c}"])


# --- captions ---


def test_captions_are_read_back_and_need_no_class_names(tmp_path: Path) -> None:
    write_retrieval(tmp_path / "r", [(b"x", "png", ["a cat", "two\nlines"]), (b"y", "png", ["a dog"])])
    benchmark = read_clip_benchmark(tmp_path / "r")
    assert [benchmark.source.read(i).captions for i in range(2)] == [("a cat", "two\nlines"), ("a dog",)]
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"dataset_type.txt", "test"}


def test_captions_are_written_as_clip_benchmark_exports_them(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "r" / "test", num_digits=1) as writer:
        writer.write("s0000000", {"webp": b"x", "txt": rb"a cat" + b"\n" + rb"two\nlines"})
    theirs = (tmp_path / "r" / "test" / "0.tar").read_bytes()
    write_retrieval(tmp_path / "r", [(b"x", "webp", ["a cat", "two\nlines"])])
    assert (tmp_path / "r" / "test" / "0.tar").read_bytes() == theirs


@pytest.mark.parametrize("text", [b"a cat\n\na dog", b"a cat\n \na dog"])
def test_a_blank_caption_among_others_is_a_bad_sample(tmp_path: Path, text: bytes) -> None:
    write_retrieval(tmp_path / "r", [(b"x", "png", ["a cat"])])
    with ShardWriter(tmp_path / "r" / "test", num_digits=1) as writer:
        writer.write("s0", {"png": b"x", "txt": text})
    with pytest.raises(BadSample, match=r"empty caption \(line 2"):
        read_retrieval(tmp_path / "r").source.read(0)


def test_an_image_without_captions_is_a_bad_sample(tmp_path: Path) -> None:
    write_classification(tmp_path / "r", [(b"x", "png", 0)], ["a"], ["{c}"])
    with pytest.raises(BadSample, match="missing caption"):
        read_retrieval(tmp_path / "r").source.read(0)


@given(captions=st.lists(st.text(st.sampled_from("aé \n\\\r\0\u2028\ufeff\ud800"), max_size=6), max_size=3))
def test_captions_are_read_back_unchanged_or_refused(tmp_path: Path, captions: list[str]) -> None:
    try:
        write_retrieval(tmp_path / "r", [(b"x", "png", captions)])
    except DataError:
        special = "\r\0\u2028\ufeff\ud800"
        blank = not captions or any(not caption.strip() for caption in captions)
        assert blank or any("\\n" in caption or set(special) & set(caption) for caption in captions)
    else:
        assert read_retrieval(tmp_path / "r").source.read(0).captions == tuple(captions)


@pytest.mark.parametrize("caption", ["", " ", "a\u2028b", "a\rb", "a\0b", "\\nu", "\ud800"])
def test_captions_that_the_format_would_change_are_not_written(tmp_path: Path, caption: str) -> None:
    with pytest.raises(DataError, match="sample 1 has"):
        write_retrieval(tmp_path / "r", [(b"x", "png", ["a cat"]), (b"x", "png", ["a dog", caption])])


def test_an_unknown_dataset_type_is_refused(folder: Path) -> None:
    (folder / "dataset_type.txt").write_text("captioning\n")
    with pytest.raises(DataError, match=r"unknown dataset type .* Use classification, multilabel, retrieval"):
        read_clip_benchmark(folder)
