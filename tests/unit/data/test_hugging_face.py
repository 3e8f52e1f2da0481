"""Saved datasets and hub files give the rows that `datasets` gives, and errors for damage.

`datasets.load_from_disk` reads the same folders as a reference. Releases of `datasets` before 1.19 saved an order of
rows beside the data. The current release cannot, so the test writes the same two files.
"""

import json
import os
import pickle
import timeit
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from zebra.config.data import DataConfig
from zebra.data.hub_parquet import HubDataset
from zebra.data.hugging_face import SavedDataset
from zebra.data.sources import Source, open_source
from zebra.errors import BadSample, DataError

DEFAULT = DataConfig()
FEATURES = Features(
    {"image": Image(), "caption": List(Value("string")), "label": ClassLabel(names=["cat", "dog", "fox"])}
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Disable progress bars, and keep `datasets` out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".datasets")
    datasets.disable_progress_bars()


@pytest.fixture
def dataset(make_image: Callable[..., bytes]) -> Dataset:
    """Twenty rows with two captions each."""
    rows = [
        {
            "image": {"bytes": make_image(number), "path": f"{number}.jpg"},
            "caption": [f"a {number}", f"ein {number}"],
            "label": number % 3,
        }
        for number in range(20)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def save(dataset: Dataset, folder: Path, **options: int) -> Path:
    dataset.save_to_disk(folder, **options)
    return folder


def save_order(dataset: Dataset, folder: Path) -> Path:
    """Save a shuffled view as the data and, in indices.arrow, the order of its rows."""
    save(dataset, folder, num_shards=2)
    shuffled = Dataset.load_from_disk(folder).shuffle(seed=5, indices_cache_file_name=str(folder / "indices.arrow"))
    assert shuffled["label"] != dataset["label"]
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "indices.arrow"}]}))
    return folder


def read_rows(source: Source) -> list[object]:
    """Return image, captions and label of usable rows, and the reasons of bad ones."""
    rows: list[object] = []
    for index in range(len(source)):
        try:
            record = source.read(index)
            rows.append((record.image, list(record.captions), record.label))
        except BadSample as bad:
            rows.append(bad.reason)
    return rows


def expected_rows(dataset: Dataset) -> list[object]:
    rows = dataset.cast_column("image", Image(decode=False))
    return [(row["image"]["bytes"], row["caption"], row["label"]) for row in rows]


def test_every_row_is_what_datasets_returns(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    assert read_rows(open_source(folder, DEFAULT)) == expected_rows(datasets.load_from_disk(folder))


def test_several_files_are_concatenated(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved", num_shards=7)
    assert len(list(folder.glob("*.arrow"))) == 7
    assert read_rows(open_source(folder, DEFAULT)) == expected_rows(datasets.load_from_disk(folder))


@pytest.mark.parametrize("view", [lambda d: d.select([7, 3, 3, 19]), lambda d: d.shuffle(seed=3), lambda d: d.skip(4)])
def test_a_selection_is_read_in_its_order(view: Callable[[Dataset], Dataset], dataset: Dataset, tmp_path: Path) -> None:
    folder = save(view(dataset), tmp_path / "saved")
    assert read_rows(open_source(folder, DEFAULT)) == expected_rows(view(dataset))


def test_saved_row_indices_are_applied(dataset: Dataset, tmp_path: Path) -> None:
    folder = save_order(dataset, tmp_path / "saved")
    assert read_rows(open_source(folder, DEFAULT)) == expected_rows(Dataset.load_from_disk(folder).shuffle(seed=5))


def test_row_indices_outside_the_data_are_an_error(dataset: Dataset, tmp_path: Path) -> None:
    folder = save_order(dataset, tmp_path / "saved")
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"_data_files": state["_data_files"][:1]}))
    with pytest.raises(DataError, match=r"indices\.arrow has indices outside the 10 rows"):
        open_source(folder, DEFAULT)


def test_image_paths_are_relative_to_the_folder(dataset: Dataset, tmp_path: Path, make_image) -> None:
    folder = save(dataset, tmp_path / "saved")
    images = [{"bytes": None, "path": "images/7.jpg"}, {"bytes": None, "path": str(tmp_path / "8.jpg")}]
    write_rows(folder, image=images, caption=[["a"], ["a"]], label=[0, 0])
    (folder / "images").mkdir()
    (folder / "images" / "7.jpg").write_bytes(make_image(7))
    (tmp_path / "8.jpg").write_bytes(make_image(8))
    assert read_rows(open_source(folder, DEFAULT)) == [(make_image(7), ["a"], 0), (make_image(8), ["a"], 0)]


def write_rows(folder: Path, **columns: list[object]) -> None:
    """Replace the rows of a saved dataset, in the schema of its writer."""
    schema = Dataset.load_from_disk(folder).data.schema
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    path = next(folder.glob("*.arrow"))
    path.unlink()  # it may be memory-mapped
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table(arrays, schema=schema))


def test_incomplete_rows_are_bad_samples_with_reasons(dataset: Dataset, tmp_path: Path, make_image) -> None:
    folder = save(dataset, tmp_path / "saved")
    good = {"bytes": make_image(1), "path": None}
    empty = {"bytes": None, "path": None}
    gone = {"bytes": None, "path": "gone.jpg"}
    write_rows(
        folder,
        image=[good, None, empty, gone, good, good, good, good],
        caption=[["a"], ["a"], ["a"], ["a"], None, [], [None, " "], [None, "b"]],
        label=[0] * 8,
    )
    assert read_rows(open_source(folder, DEFAULT)) == [
        (make_image(1), ["a"], 0),
        "missing image",
        "missing image",
        "unreadable file",
        "empty caption",
        "empty caption",
        "empty caption",
        (make_image(1), ["b"], 0),
    ]


def test_a_caption_that_is_not_utf8_is_a_bad_sample(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    path.write_bytes(path.read_bytes().replace(b"a 7", b"a \xff"))
    outcomes = read_rows(open_source(folder, DEFAULT))
    assert [row for row in outcomes if isinstance(row, str)] == ["caption is not UTF-8"]
    assert outcomes[7] == "caption is not UTF-8"


def test_a_bad_sample_has_its_row_number(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    write_rows(folder, image=[{"bytes": b"x", "path": None}, None], caption=[["a"]] * 2, label=[0] * 2)
    with pytest.raises(BadSample, match=r"^saved:1: missing image"):
        open_source(folder, DEFAULT).read(1)


def test_labels_have_class_names(dataset: Dataset, tmp_path: Path) -> None:
    source = SavedDataset(save(dataset, tmp_path / "saved"), DEFAULT)
    assert source.classnames == ("cat", "dog", "fox")
    assert [source.read(index).label for index in range(4)] == [0, 1, 2, 0]


def test_a_dataset_with_labels_needs_no_captions(dataset: Dataset, tmp_path: Path, make_image) -> None:
    source = open_source(save(dataset.remove_columns("caption"), tmp_path / "saved"), DEFAULT)
    assert read_rows(source)[:2] == [(make_image(0), [], 0), (make_image(1), [], 1)]


def test_a_row_without_caption_and_label_is_a_bad_sample(dataset: Dataset, tmp_path: Path, make_image) -> None:
    folder = save(dataset.remove_columns("caption"), tmp_path / "saved")
    write_rows(folder, image=[{"bytes": make_image(1), "path": None}] * 3, label=[0, None, -1])
    assert read_rows(open_source(folder, DEFAULT)) == [(make_image(1), [], 0), "missing caption", "missing caption"]


def test_an_unpublished_label_is_none(dataset: Dataset, tmp_path: Path, make_image) -> None:
    folder = save(dataset, tmp_path / "saved")
    write_rows(folder, image=[{"bytes": make_image(1), "path": None}] * 2, caption=[["a"]] * 2, label=[-1, None])
    assert [row[2] for row in read_rows(open_source(folder, DEFAULT))] == [None, None]


def test_a_dataset_without_captions_and_labels_is_an_error_with_the_flag(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset.select_columns(["image"]), tmp_path / "saved")
    with pytest.raises(DataError, match=r"no caption column.*--data-options\.caption-columns"):
        open_source(folder, DEFAULT)


def test_columns_can_be_named(dataset: Dataset, tmp_path: Path, make_image) -> None:
    renamed = dataset.rename_columns({"image": "photo", "caption": "legende"})
    folder = save(renamed.add_column("caption", ["not this"] * 20), tmp_path / "saved")
    config = DataConfig(image_column="photo", caption_columns=("legende",))
    assert read_rows(open_source(folder, config))[3] == (make_image(3), ["a 3", "ein 3"], 0)


def test_weights_and_groups_come_from_columns(dataset: Dataset, tmp_path: Path) -> None:
    skus = [7, None, *range(18)]
    folder = save(dataset.add_column("name", ["cat"] * 20).add_column("sku", skus), tmp_path / "saved")
    config = DataConfig(caption_columns=("name", "caption"), caption_weights=(1.0, 3.0), group_column="sku")
    record = open_source(folder, config).read(0)
    assert (record.captions, record.caption_probabilities) == (("cat", "a 0", "ein 0"), (0.25, 0.375, 0.375))
    assert [open_source(folder, config).read(index).group for index in range(3)] == ["7", None, "0"]
    with pytest.raises(DataError, match=r"no column 'skv'\. Did you mean 'sku'\?"):
        open_source(folder, DataConfig(group_column="skv"))


def test_a_column_of_type_image_takes_precedence_over_known_names(dataset: Dataset, tmp_path: Path) -> None:
    other = dataset.rename_column("image", "jpg").add_column("path", ["unrelated"] * 20)
    assert read_rows(open_source(save(other, tmp_path / "saved"), DEFAULT)) == expected_rows(dataset)


def test_a_source_can_be_pickled(dataset: Dataset, tmp_path: Path) -> None:
    source = SavedDataset(save_order(dataset, tmp_path / "saved"), DEFAULT)
    pickled = pickle.dumps(source)
    assert len(pickled) < 2_000
    assert read_rows(pickle.loads(pickled)) == read_rows(source)


def test_a_file_that_changed_before_unpickling_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    pickled = pickle.dumps(SavedDataset(folder, DEFAULT))
    os.utime(next(folder.glob("*.arrow")), (1, 1))
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow has changed while it was in use"):
        pickle.loads(pickled).read(0)


def test_the_digest_is_equal_for_copies_only(dataset: Dataset, tmp_path: Path) -> None:
    first = SavedDataset(save(dataset, tmp_path / "a"), DEFAULT).digest
    assert SavedDataset(save(dataset, tmp_path / "b"), DEFAULT).digest == first
    others = [
        SavedDataset(save(dataset.select(range(19)), tmp_path / "c"), DEFAULT),
        SavedDataset(save(dataset.shuffle(seed=1), tmp_path / "d"), DEFAULT),
        SavedDataset(save(dataset.map(lambda row: {"label": 2 - row["label"]}), tmp_path / "e"), DEFAULT),
        SavedDataset(tmp_path / "a", DataConfig(caption_columns=("label",))),
    ]
    assert len({first, *(source.digest for source in others)}) == 5


def test_truncation_between_two_batches_is_detected(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:-8])
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 20  # Arrow reports no error
    with pytest.raises(DataError, match="truncated: its end marker is missing"):
        open_source(folder, DEFAULT)


def test_truncation_inside_a_batch_is_detected(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[-8:])
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow is damaged"):
        open_source(folder, DEFAULT)


def test_offsets_outside_the_file_are_detected(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    offsets = pa.ipc.open_stream(path.read_bytes()).read_all()["image"].chunk(0).field("bytes").buffers()[1]
    data = bytearray(path.read_bytes())
    position = bytes(data).index(offsets.to_pybytes())
    data[position + 12 + 3] = 0x40  # adds a gigabyte to the fourth offset
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        open_source(folder, DEFAULT)


def test_files_with_other_columns_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved", num_shards=2)
    other = save(dataset.cast_column("label", Value("string")), tmp_path / "other", num_shards=2)
    (other / "data-00001-of-00002.arrow").replace(folder / "data-00001-of-00002.arrow")
    with pytest.raises(DataError, match=r"saved is damaged \(Schema"):
        open_source(folder, DEFAULT)


def test_missing_files_are_counted(dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved", num_shards=3)
    (folder / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 3 files .* first data-00001-of-00003\.arrow"):
        open_source(folder, DEFAULT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "no JSON object"),
        ('{"_data_files": [1]}', "no list of files"),
        ("{}", "no rows"),
    ],
)
def test_a_malformed_state_is_an_error(text: str, message: str, dataset: Dataset, tmp_path: Path) -> None:
    folder = save(dataset, tmp_path / "saved")
    (folder / "state.json").write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(folder, DEFAULT)


def test_a_saved_dataset_without_rows_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        open_source(save(dataset.select([]), tmp_path / "saved"), DEFAULT)


def test_one_of_several_splits_must_be_given(dataset: Dataset, tmp_path: Path) -> None:
    save(DatasetDict({"train": dataset, "test": dataset.select([2])}), tmp_path / "both")
    with pytest.raises(DataError, match=r"2 splits: train, test\. Give one of them, such as .*both/train"):
        open_source(tmp_path / "both", DEFAULT)
    assert len(open_source(tmp_path / "both" / "test", DEFAULT)) == 1


def test_a_single_split_need_not_be_given(dataset: Dataset, tmp_path: Path) -> None:
    save(DatasetDict({"train": dataset}), tmp_path / "one")
    assert read_rows(open_source(tmp_path / "one", DEFAULT)) == expected_rows(dataset)


def test_reading_time_does_not_depend_on_the_number_of_batches(dataset: Dataset, tmp_path: Path) -> None:
    """Extracting the column for each row, or iterating over its batches, takes 20 times as long."""
    seconds = []
    for rows in (20, 10_000):
        folder = save(dataset.select([0] * rows), tmp_path / str(rows), num_shards=1)
        table = pa.ipc.open_stream(next(folder.glob("*.arrow")).read_bytes()).read_all()
        path = next(folder.glob("*.arrow"))
        path.unlink()
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
        source = SavedDataset(folder, DEFAULT)
        seconds.append(min(timeit.repeat(lambda: source.read(rows - 1), number=100, repeat=5)))  # noqa: B023
    assert seconds[1] < 5 * seconds[0]


def as_hub_files(dataset: Dataset, folder: Path, split: str, parts: int) -> None:
    """Write Parquet files as `push_to_hub` names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(parts):
        dataset.shard(parts, number, contiguous=True).to_parquet(
            folder / f"{split}-{number:05d}-of-{parts:05d}.parquet"
        )


def test_hub_files_are_read_in_order(dataset: Dataset, tmp_path: Path) -> None:
    as_hub_files(dataset, tmp_path / "hub" / "data", "train", 3)
    source = open_source(tmp_path / "hub", DEFAULT)
    assert isinstance(source, HubDataset)
    assert [row[:2] for row in read_rows(source)] == [row[:2] for row in expected_rows(dataset)]
    assert source.read(19).id == source.sample_id(19) == "train-00002-of-00003.parquet:6"


def test_hub_splits_are_read_separately(dataset: Dataset, tmp_path: Path) -> None:
    as_hub_files(dataset, tmp_path / "hub" / "data", "train", 2)
    as_hub_files(dataset.select([4, 5]), tmp_path / "hub" / "data", "test", 1)
    with pytest.raises(DataError, match=r"2 splits: test, train\. Give one of them, such as .*hub/test"):
        open_source(tmp_path / "hub", DEFAULT)
    assert len(open_source(tmp_path / "hub" / "train", DEFAULT)) == 20
    assert len(open_source(tmp_path / "hub" / "test", DEFAULT)) == 2
    with pytest.raises(DataError, match="2 splits: test, train"):
        open_source(tmp_path / "hub" / "validation", DEFAULT)


def test_an_incomplete_split_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    as_hub_files(dataset, tmp_path / "hub", "train", 4)
    (tmp_path / "hub" / "train-00002-of-00004.parquet").unlink()
    with pytest.raises(DataError, match="has 3 files of train, but their names count 4"):
        open_source(tmp_path / "hub", DEFAULT)


def test_parquet_files_of_any_name_are_one_dataset(tmp_path: Path, make_image) -> None:
    (tmp_path / "plain").mkdir()
    for number in range(2):
        table = pa.table({"image": [make_image(number)], "caption": [f"color {number}"]})
        pq.write_table(table, tmp_path / "plain" / f"{number:04d}.parquet")
    source = open_source(tmp_path / "plain", DEFAULT)
    assert read_rows(source) == [(make_image(0), ["color 0"], None), (make_image(1), ["color 1"], None)]
    assert pickle.loads(pickle.dumps(source)).read(1) == source.read(1)


def save_images(folder: Path, make_image: Callable[..., bytes], *names: str) -> Path:
    """Save one row with a column of the type Image for each name; the image of column i has number i."""
    row = {name: {"bytes": make_image(number), "path": None} for number, name in enumerate(names)}
    features = Features(dict.fromkeys(names, Image()) | {"Caption": Value("string"), "path": Value("string")})
    return save(Dataset.from_list([row | {"Caption": "a dog", "path": "gone.jpg"}], features=features), folder)


@pytest.mark.parametrize(
    ("names", "expected"), [(("Photo",), 0), (("conditioning_image", "image"), 1), (("mask", "Image"), 1)]
)
def test_the_image_column_is_the_only_one_or_has_a_known_name(
    tmp_path: Path, make_image: Callable[..., bytes], names: tuple[str, ...], expected: int
) -> None:
    folder = save_images(tmp_path / "saved", make_image, *names)
    record = SavedDataset(folder, DEFAULT).read(0)
    assert (record.image, record.captions) == (make_image(expected), ("a dog",))


def test_several_image_columns_of_other_names_are_an_error(tmp_path: Path, make_image: Callable[..., bytes]) -> None:
    folder = save_images(tmp_path / "saved", make_image, "left", "right")
    with pytest.raises(DataError, match=r"2 columns of images: left, right.*--data-options.image-column"):
        SavedDataset(folder, DEFAULT)
    assert SavedDataset(folder, DataConfig(image_column="Right")).read(0).image == make_image(1)
