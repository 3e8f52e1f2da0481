"""A CLIP_benchmark folder is read as a whole or not at all."""

from pathlib import Path

import pytest

from zebra.data.benchmarks import read_benchmark, write_benchmark
from zebra.errors import DataError

NAMES, TEMPLATES = ("cat", "striped horse"), ("a photo of a {c}.", "{c}")


@pytest.fixture
def folder(tmp_path: Path, picture) -> Path:
    """Five pictures in three shards."""
    path = tmp_path / "pets"
    samples = [(picture(i, "PNG"), "png", i % 2) for i in range(5)]
    write_benchmark(path, samples, NAMES, TEMPLATES, samples_per_shard=2)
    return path


def test_what_is_written_comes_back(folder: Path, picture) -> None:
    benchmark = read_benchmark(folder)
    assert (benchmark.name, benchmark.classnames, benchmark.templates) == ("pets", NAMES, TEMPLATES)
    records = [benchmark.source.read(i) for i in range(len(benchmark.source))]
    assert [record.label for record in records] == [0, 1, 0, 1, 0]
    assert [record.image for record in records] == [picture(i, "PNG") for i in range(5)]


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
    write_benchmark(
        tmp_path / "s", [(b"x", "png", i) for i in range(12)], list("abcdefghijkl"), ["{c}"], "train", 1
    )
    source = read_benchmark(tmp_path / "s", "train").source
    assert [source.read(i).label for i in range(12)] == list(range(12))


def test_a_missing_shard_is_an_error_and_never_a_smaller_set(folder: Path) -> None:
    (folder / "test" / "1.tar").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 3 shards .*1\.tar"):
        read_benchmark(folder)


@pytest.mark.parametrize(
    "name", ["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"]
)
def test_each_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        read_benchmark(folder)


def test_a_missing_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path / "nowhere")):
        read_benchmark(Path("nowhere"))


def test_a_label_without_a_class_is_an_error(folder: Path) -> None:
    (folder / "classnames.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"label 1.*names 1 classes"):
        read_benchmark(folder)


@pytest.mark.parametrize("count", ["0", "three", "-1"])
def test_a_senseless_number_of_shards_is_an_error(folder: Path, count: str) -> None:
    (folder / "test" / "nshards.txt").write_text(count)
    with pytest.raises(DataError, match="number of shards"):
        read_benchmark(folder)


def test_templates_of_both_dialects_are_read_and_others_refused(folder: Path) -> None:
    path = folder / "zeroshot_classification_templates.txt"
    path.write_text("a {}\na {c}\n")
    assert read_benchmark(folder).templates == ("a {}", "a {c}")
    path.write_text("a {class}\n")
    with pytest.raises(DataError, match=r"no \{c\}"):
        read_benchmark(folder)


def test_an_empty_line_among_class_names_is_an_error_since_it_would_shift_labels(folder: Path) -> None:
    (folder / "classnames.txt").write_text("cat\n\nhorse\n")
    with pytest.raises(DataError, match=r"classnames\.txt:2"):
        read_benchmark(folder)


def test_sets_of_other_types_are_refused(folder: Path) -> None:
    (folder / "dataset_type.txt").write_text("retrieval\n")
    with pytest.raises(DataError, match="retrieval"):
        read_benchmark(folder)


def test_a_set_that_was_not_written_to_its_end_is_not_read(tmp_path: Path) -> None:
    def interrupted():
        yield b"x", "png", 0
        raise KeyboardInterrupt

    write_benchmark(tmp_path / "s", [(b"x", "png", 0)] * 3, ["a"], ["{c}"])
    with pytest.raises(KeyboardInterrupt):
        write_benchmark(tmp_path / "s", interrupted(), ["a"], ["{c}"])
    with pytest.raises(DataError, match=r"nshards\.txt"):
        read_benchmark(tmp_path / "s")


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
def test_what_the_format_cannot_hold_is_not_written(tmp_path: Path, samples, names, templates) -> None:
    with pytest.raises(DataError):
        write_benchmark(tmp_path / "s", samples, names, templates)
    with pytest.raises(DataError):
        read_benchmark(tmp_path / "s")
