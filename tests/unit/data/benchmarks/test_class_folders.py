"""Folders of images, one per class, give labels and class names, or an error."""

import pickle
from pathlib import Path

import pytest

from zebra.data.benchmarks.class_folders import read_class_folders
from zebra.errors import DataError


@pytest.fixture
def put(tmp_path: Path, make_image):
    """A function that writes images at paths below a folder, and returns the folder."""

    def write(*names: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / "pets" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(make_image(number))
        return tmp_path / "pets"

    return write


def labels_by_id(benchmark) -> list[tuple[str, int]]:
    records = [benchmark.source.read(i) for i in range(len(benchmark.source))]
    return [(record.id, record.label) for record in records]


def test_each_folder_is_a_class_and_underscores_become_spaces(put) -> None:
    benchmark = read_class_folders(put("tabby_cat/b.jpg", "dog/a.jpg", "tabby_cat/a.jpg"))
    assert (benchmark.name, benchmark.classnames) == ("pets", ("dog", "tabby cat"))
    assert labels_by_id(benchmark) == [("dog/a.jpg", 0), ("tabby_cat/a.jpg", 1), ("tabby_cat/b.jpg", 1)]


def test_the_bytes_of_an_image_are_not_changed(put, make_image) -> None:
    assert read_class_folders(put("cat/a.jpg", "dog/b.jpg")).source.read(1).image == make_image(1)


def test_splits_above_the_classes_share_their_labels(put) -> None:
    root = put("train/cat/a.jpg", "train/dog/b.jpg", "test/dog/c.jpg")
    test = read_class_folders(root)
    assert labels_by_id(test) == [("test/dog/c.jpg", 1)]
    assert test.notes == ("1 of 2 classes have no image here: cat",)
    assert labels_by_id(read_class_folders(root, "train")) == [("train/cat/a.jpg", 0), ("train/dog/b.jpg", 1)]


def test_splits_below_the_classes_are_read_too(put) -> None:
    root = put("cat/train/a.jpg", "cat/test/b.jpg", "dog/test/c.jpg")
    assert labels_by_id(read_class_folders(root)) == [("cat/test/b.jpg", 0), ("dog/test/c.jpg", 1)]


@pytest.mark.parametrize("name", ["test/cat/a.jpg", "cat/test/a.jpg"])
def test_a_missing_split_is_an_error_that_lists_the_others(put, name: str) -> None:
    with pytest.raises(DataError, match=r"no split 'val'\. It has test"):
        read_class_folders(put(name), "val")


def test_a_class_called_train_is_a_class_and_no_split(put) -> None:
    benchmark = read_class_folders(put("airplane/a.jpg", "ship/b.jpg", "train/c.jpg"))
    assert (benchmark.classnames, len(benchmark.source)) == (("airplane", "ship", "train"), 3)
    with pytest.raises(DataError, match="has no splits, so it cannot provide 'train'"):
        read_class_folders(put("airplane/a.jpg"), "train")


def test_a_class_called_train_has_splits_as_the_other_classes(put) -> None:
    root = put("ship/train/a.jpg", "ship/test/b.jpg", "train/train/c.jpg", "train/test/d.jpg")
    assert labels_by_id(read_class_folders(root)) == [("ship/test/b.jpg", 0), ("train/test/d.jpg", 1)]
    root = put("x/train/train/a.jpg", "x/train/dog/b.jpg", "x/test/train/c.jpg", "x/test/dog/d.jpg") / "x"
    assert labels_by_id(read_class_folders(root)) == [("test/dog/d.jpg", 0), ("test/train/c.jpg", 1)]


def test_a_single_split_beside_another_folder_is_a_split(put) -> None:
    benchmark = read_class_folders(put("test/cat/a.jpg", "test/dog/b.jpg", "originals/c.jpg"))
    assert benchmark.classnames == ("cat", "dog")
    assert benchmark.notes == ("folders beside the splits were ignored: originals",)


@pytest.mark.parametrize(("folders", "split"), [(("Train", "Test"), "test"), (("train2017", "val2017"), "val")])
def test_split_folders_may_have_capitals_and_years(put, folders: tuple[str, str], split: str) -> None:
    root = put(*(f"{folder}/{name}/a.jpg" for folder in folders for name in ("cat", "dog")))
    assert labels_by_id(read_class_folders(root, split)) == [
        (f"{folders[1]}/cat/a.jpg", 0),
        (f"{folders[1]}/dog/a.jpg", 1),
    ]


def test_a_dataset_without_splits_has_only_the_split_test(put) -> None:
    with pytest.raises(DataError, match="has no splits, so it cannot provide 'train'"):
        read_class_folders(put("cat/a.jpg"), "train")


def test_numeric_folder_names_are_labels_and_not_sorted_as_text(put) -> None:
    root = put("10/a.jpg", "2/b.jpg", "0/c.jpg")
    (root / "classnames.txt").write_text("\n".join(f"class {i}" for i in range(11)))
    assert labels_by_id(read_class_folders(root)) == [("0/c.jpg", 0), ("2/b.jpg", 2), ("10/a.jpg", 10)]


def test_numeric_folder_names_without_class_names_are_sorted_as_numbers(put) -> None:
    benchmark = read_class_folders(put("10/a.jpg", "2/b.jpg"))
    assert (benchmark.classnames, labels_by_id(benchmark)) == (("2", "10"), [("2/b.jpg", 0), ("10/a.jpg", 1)])


def test_a_numeric_folder_name_without_a_class_name_is_an_error(put) -> None:
    root = put("1/a.jpg", "2/b.jpg")
    (root / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"folder 2, but classnames\.txt has 2 class names \(0 to 1\)"):
        read_class_folders(root)


def test_class_names_equal_to_folder_names_determine_the_labels(put) -> None:
    root = put("cat/a.jpg", "dog/b.jpg")
    (root / "classnames.txt").write_text("dog\nhorse\ncat\n")
    benchmark = read_class_folders(root)
    assert labels_by_id(benchmark) == [("dog/b.jpg", 0), ("cat/a.jpg", 2)]
    assert benchmark.notes == ("1 of 3 classes have no image here: horse",)


def test_other_class_names_belong_to_the_sorted_folders(put) -> None:
    root = put("n02/a.jpg", "n01/b.jpg")
    (root / "classnames.txt").write_text("tench\ngoldfish\n")
    benchmark = read_class_folders(root)
    assert (benchmark.classnames, labels_by_id(benchmark)[0]) == (("tench", "goldfish"), ("n01/b.jpg", 0))


def test_class_names_that_match_no_folder_are_an_error(put) -> None:
    root = put("n02/a.jpg", "n01/b.jpg")
    (root / "classnames.txt").write_text("tench\ngoldfish\nshark\n")
    with pytest.raises(DataError, match=r"2 class folders, but classnames\.txt has 3 names and not \'n01\'"):
        read_class_folders(root)


def test_templates_in_the_root_are_used(put) -> None:
    root = put("cat/a.jpg")
    assert read_class_folders(root).templates == ()
    (root / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    assert read_class_folders(root).templates == ("a {c}",)


def test_files_that_are_no_images_are_counted(put) -> None:
    root = put("cat/a.jpg", "cat/a.txt", "cat/b.psd", "cat/.hidden.jpg")
    benchmark = read_class_folders(root)
    assert len(benchmark.source) == 1
    assert benchmark.notes == (
        "3 files not read: 1 .psd (cat/b.psd), 1 .txt (cat/a.txt), 1 hidden (cat/.hidden.jpg). "
        "Convert PSD images to JPEG or PNG",
    )


def test_images_without_a_class_are_an_error(put) -> None:
    with pytest.raises(DataError, match=r"1 images beside its class folders, such as a\.jpg"):
        read_class_folders(put("a.jpg", "cat/b.jpg"))


def test_a_folder_without_images_is_an_error(put) -> None:
    with pytest.raises(DataError, match="has no images"):
        read_class_folders(put("cat/a.txt"))


def test_the_digest_changes_when_a_label_does(put) -> None:
    root = put("cat/a.jpg", "dog/b.jpg")
    before = read_class_folders(root).source.digest
    (root / "classnames.txt").write_text("dog\ncat\n")
    assert read_class_folders(root).source.digest != before


def test_the_source_can_be_pickled(put) -> None:
    source = read_class_folders(put("cat/a.jpg")).source
    assert pickle.loads(pickle.dumps(source)).read(0) == source.read(0)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("kitten", "cat"),
        ("kitten", "../outside/deep"),
        ("kitten", "."),
        ("dog/kitten", "cat"),
        ("dog/kitten", "cat/deep"),
    ],
)
def test_links_that_put_an_image_into_two_classes_are_refused(tmp_path: Path, link: str, target: str) -> None:
    root = tmp_path / "pets"
    for folder in (root / "cat" / "deep", root / "dog", tmp_path / "outside" / "deep"):
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(b"x")
    (root / "lynx").symlink_to(tmp_path / "outside")
    read_class_folders(root)
    (root / link).symlink_to(root / target)
    with pytest.raises(DataError, match=r"pets has the same images in two classes: .*Remove the link"):
        read_class_folders(root)


def test_two_splits_may_share_class_folders(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    (root / "val" / "cat").mkdir(parents=True)
    (root / "val" / "cat" / "1.png").write_bytes(b"x")
    (root / "test").symlink_to("val")
    assert len(read_class_folders(root, "test").source) == len(read_class_folders(root, "val").source) == 1
