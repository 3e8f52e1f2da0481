"""Rows read from disk are those that `datasets` gives; what it would read in silence is an error.

Outside truth: `datasets`, whose `load_from_disk` reads the same folders. Folders with an order of rows beside the data
were written by its releases before 1.19; the current one cannot, but makes the same two files.
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
from zebra.data.hugging_face import HubDataset, SavedDataset
from zebra.data.sources import Source, open_source
from zebra.errors import BadSample, DataError

DEFAULT = DataConfig()
FEATURES = Features(
    {"image": Image(), "caption": List(Value("string")), "label": ClassLabel(names=["cat", "dog", "fox"])}
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No bars, and nothing of `datasets` in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".datasets")
    datasets.disable_progress_bars()


@pytest.fixture
def made(picture: Callable[..., bytes]) -> Dataset:
    """Twenty rows with two captions each."""
    rows = [
        {
            "image": {"bytes": picture(number), "path": f"{number}.jpg"},
            "caption": [f"a {number}", f"ein {number}"],
            "label": number % 3,
        }
        for number in range(20)
    ]
    return Dataset.from_list(rows, features=FEATURES)


def save(made: Dataset, folder: Path, **how: int) -> Path:
    made.save_to_disk(folder, **how)
    return folder


def save_order(made: Dataset, folder: Path) -> Path:
    """Save a shuffled view as the data and, in indices.arrow, the order of its rows."""
    save(made, folder, num_shards=2)
    shuffled = Dataset.load_from_disk(folder).shuffle(
        seed=5, indices_cache_file_name=str(folder / "indices.arrow")
    )
    assert shuffled["label"] != made["label"]
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(
        json.dumps(state | {"_indices_data_files": [{"filename": "indices.arrow"}]})
    )
    return folder


def told(source: Source) -> list[object]:
    """Image, captions and label of good rows, reasons of bad ones."""
    found: list[object] = []
    for index in range(len(source)):
        try:
            record = source.read(index)
            found.append((record.image, list(record.captions), record.label))
        except BadSample as bad:
            found.append(bad.reason)
    return found


def truth(made: Dataset) -> list[object]:
    rows = made.cast_column("image", Image(decode=False))
    return [(row["image"]["bytes"], row["caption"], row["label"]) for row in rows]


def test_every_row_is_what_datasets_returns(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    assert told(open_source(folder, DEFAULT)) == truth(datasets.load_from_disk(folder))


def test_several_files_are_read_one_after_the_other(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved", num_shards=7)
    assert len(list(folder.glob("*.arrow"))) == 7
    assert told(open_source(folder, DEFAULT)) == truth(datasets.load_from_disk(folder))


@pytest.mark.parametrize(
    "view", [lambda d: d.select([7, 3, 3, 19]), lambda d: d.shuffle(seed=3), lambda d: d.skip(4)]
)
def test_a_selection_is_read_as_it_was_saved(
    view: Callable[[Dataset], Dataset], made: Dataset, tmp_path: Path
) -> None:
    folder = save(view(made), tmp_path / "saved")
    assert told(open_source(folder, DEFAULT)) == truth(view(made))


def test_an_order_of_rows_beside_the_data_is_applied(made: Dataset, tmp_path: Path) -> None:
    folder = save_order(made, tmp_path / "saved")
    assert told(open_source(folder, DEFAULT)) == truth(Dataset.load_from_disk(folder).shuffle(seed=5))


def test_an_order_that_points_behind_the_data_is_refused(made: Dataset, tmp_path: Path) -> None:
    folder = save_order(made, tmp_path / "saved")
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"_data_files": state["_data_files"][:1]}))
    with pytest.raises(DataError, match=r"indices\.arrow points behind the 10 rows"):
        open_source(folder, DEFAULT)


def test_images_that_are_paths_start_at_the_folder(made: Dataset, tmp_path: Path, picture) -> None:
    folder = save(made, tmp_path / "saved")
    images = [{"bytes": None, "path": "pictures/7.jpg"}, {"bytes": None, "path": str(tmp_path / "8.jpg")}]
    write_rows(folder, image=images, caption=[["a"], ["a"]], label=[0, 0])
    (folder / "pictures").mkdir()
    (folder / "pictures" / "7.jpg").write_bytes(picture(7))
    (tmp_path / "8.jpg").write_bytes(picture(8))
    assert told(open_source(folder, DEFAULT)) == [(picture(7), ["a"], 0), (picture(8), ["a"], 0)]


def write_rows(folder: Path, **columns: list[object]) -> None:
    """Put other rows in the place of a saved data set's, laid out as its own writer does."""
    kind = Dataset.load_from_disk(folder).data.schema
    arrays = [pa.array(columns[field.name], field.type) for field in kind]
    path = next(folder.glob("*.arrow"))
    path.unlink()  # it may be mapped
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, kind) as writer:
        writer.write_table(pa.table(arrays, schema=kind))


def test_rows_that_lack_something_are_bad_samples_by_reason(made: Dataset, tmp_path: Path, picture) -> None:
    folder = save(made, tmp_path / "saved")
    good = {"bytes": picture(1), "path": None}
    empty = {"bytes": None, "path": None}
    gone = {"bytes": None, "path": "gone.jpg"}
    write_rows(
        folder,
        image=[good, None, empty, gone, good, good, good, good],
        caption=[["a"], ["a"], ["a"], ["a"], None, [], [None, " "], [None, "b"]],
        label=[0] * 8,
    )
    assert told(open_source(folder, DEFAULT)) == [
        (picture(1), ["a"], 0),
        "missing image",
        "missing image",
        "unreadable file",
        "empty caption",
        "empty caption",
        "empty caption",
        (picture(1), ["b"], 0),
    ]


def test_a_caption_that_is_not_utf8_is_a_bad_sample(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    path.write_bytes(path.read_bytes().replace(b"a 7", b"a \xff"))
    outcomes = told(open_source(folder, DEFAULT))
    assert [row for row in outcomes if isinstance(row, str)] == ["caption is not UTF-8"]
    assert outcomes[7] == "caption is not UTF-8"


def test_a_bad_row_is_named_by_its_number(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    write_rows(folder, image=[{"bytes": b"x", "path": None}, None], caption=[["a"]] * 2, label=[0] * 2)
    with pytest.raises(BadSample, match=r"^saved:1: missing image"):
        open_source(folder, DEFAULT).read(1)


def test_labels_come_with_their_names(made: Dataset, tmp_path: Path) -> None:
    source = SavedDataset(save(made, tmp_path / "saved"), DEFAULT)
    assert source.classnames == ("cat", "dog", "fox")
    assert [source.read(index).label for index in range(4)] == [0, 1, 2, 0]


def test_a_data_set_with_labels_needs_no_captions(made: Dataset, tmp_path: Path, picture) -> None:
    source = open_source(save(made.remove_columns("caption"), tmp_path / "saved"), DEFAULT)
    assert told(source)[:2] == [(picture(0), [], 0), (picture(1), [], 1)]


def test_neither_a_caption_nor_a_label_is_a_bad_sample(made: Dataset, tmp_path: Path, picture) -> None:
    folder = save(made.remove_columns("caption"), tmp_path / "saved")
    write_rows(folder, image=[{"bytes": picture(1), "path": None}] * 3, label=[0, None, -1])
    assert told(open_source(folder, DEFAULT)) == [(picture(1), [], 0), "missing caption", "missing caption"]


def test_a_label_that_is_not_told_is_none(made: Dataset, tmp_path: Path, picture) -> None:
    folder = save(made, tmp_path / "saved")
    write_rows(folder, image=[{"bytes": picture(1), "path": None}] * 2, caption=[["a"]] * 2, label=[-1, None])
    assert [row[2] for row in told(open_source(folder, DEFAULT))] == [None, None]


def test_neither_captions_nor_labels_names_the_flag(made: Dataset, tmp_path: Path) -> None:
    folder = save(made.select_columns(["image"]), tmp_path / "saved")
    with pytest.raises(DataError, match=r"no caption column.*--data-options\.caption-columns"):
        open_source(folder, DEFAULT)


def test_columns_can_be_named(made: Dataset, tmp_path: Path, picture) -> None:
    renamed = made.rename_columns({"image": "photo", "caption": "legende"})
    folder = save(renamed.add_column("caption", ["not this"] * 20), tmp_path / "saved")
    config = DataConfig(image_column="photo", caption_columns=("legende",))
    assert told(open_source(folder, config))[3] == (picture(3), ["a 3", "ein 3"], 0)


def test_the_column_that_is_said_to_hold_images_comes_before_known_names(
    made: Dataset, tmp_path: Path
) -> None:
    other = made.rename_column("image", "jpg").add_column("path", ["of long ago"] * 20)
    assert told(open_source(save(other, tmp_path / "saved"), DEFAULT)) == truth(made)


def test_a_source_travels_to_workers(made: Dataset, tmp_path: Path) -> None:
    source = SavedDataset(save_order(made, tmp_path / "saved"), DEFAULT)
    sent = pickle.dumps(source)
    assert len(sent) < 2_000
    assert told(pickle.loads(sent)) == told(source)


def test_a_file_that_changed_before_it_reached_a_worker_is_found(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    sent = pickle.dumps(SavedDataset(folder, DEFAULT))
    os.utime(next(folder.glob("*.arrow")), (1, 1))
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow changed while it was in use"):
        pickle.loads(sent).read(0)


def test_the_digest_is_that_of_a_copy_and_not_of_other_rows(made: Dataset, tmp_path: Path) -> None:
    first = SavedDataset(save(made, tmp_path / "a"), DEFAULT).digest
    assert SavedDataset(save(made, tmp_path / "b"), DEFAULT).digest == first
    others = [
        SavedDataset(save(made.select(range(19)), tmp_path / "c"), DEFAULT),
        SavedDataset(save(made.shuffle(seed=1), tmp_path / "d"), DEFAULT),
        SavedDataset(save(made.map(lambda row: {"label": 2 - row["label"]}), tmp_path / "e"), DEFAULT),
        SavedDataset(tmp_path / "a", DataConfig(caption_columns=("label",))),
    ]
    assert len({first, *(source.digest for source in others)}) == 5


def test_a_cut_between_two_batches_is_found(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:-8])
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 20  # Arrow says nothing
    with pytest.raises(DataError, match="cut off: its end mark is missing"):
        open_source(folder, DEFAULT)


def test_a_cut_inside_a_batch_is_found(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[-8:])
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow is damaged"):
        open_source(folder, DEFAULT)


def test_offsets_that_lead_out_of_the_file_are_found(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    path = next(folder.glob("*.arrow"))
    offsets = pa.ipc.open_stream(path.read_bytes()).read_all()["image"].chunk(0).field("bytes").buffers()[1]
    data = bytearray(path.read_bytes())
    place = bytes(data).index(offsets.to_pybytes())
    data[place + 12 + 3] = 0x40  # the fourth offset: a gigabyte further on
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        open_source(folder, DEFAULT)


def test_files_with_other_columns_are_refused(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved", num_shards=2)
    other = save(made.cast_column("label", Value("string")), tmp_path / "other", num_shards=2)
    (other / "data-00001-of-00002.arrow").replace(folder / "data-00001-of-00002.arrow")
    with pytest.raises(DataError, match=r"saved is damaged \(Schema"):
        open_source(folder, DEFAULT)


def test_missing_files_are_counted(made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved", num_shards=3)
    (folder / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 3 files .* first data-00001-of-00003\.arrow"):
        open_source(folder, DEFAULT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "no object"),
        ('{"_data_files": [1]}', "no list of files"),
        ("{}", "single row"),
    ],
)
def test_a_broken_state_is_named(text: str, message: str, made: Dataset, tmp_path: Path) -> None:
    folder = save(made, tmp_path / "saved")
    (folder / "state.json").write_text(text)
    with pytest.raises(DataError, match=message):
        open_source(folder, DEFAULT)


def test_a_saved_data_set_without_rows_says_so(made: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without a single row"):
        open_source(save(made.select([]), tmp_path / "saved"), DEFAULT)


def test_of_several_splits_one_has_to_be_named(made: Dataset, tmp_path: Path) -> None:
    save(DatasetDict({"train": made, "test": made.select([2])}), tmp_path / "both")
    with pytest.raises(DataError, match=r"2 splits: train, test; name one of them: .*both/train"):
        open_source(tmp_path / "both", DEFAULT)
    assert len(open_source(tmp_path / "both" / "test", DEFAULT)) == 1


def test_an_only_split_need_not_be_named(made: Dataset, tmp_path: Path) -> None:
    save(DatasetDict({"train": made}), tmp_path / "one")
    assert told(open_source(tmp_path / "one", DEFAULT)) == truth(made)


def test_reading_costs_the_same_among_thousands_of_batches(made: Dataset, tmp_path: Path) -> None:
    """A column taken from its table anew for each row, or a walk through its batches, costs 20 times as much."""
    seconds = []
    for rows in (20, 10_000):
        folder = save(made.select([0] * rows), tmp_path / str(rows), num_shards=1)
        table = pa.ipc.open_stream(next(folder.glob("*.arrow")).read_bytes()).read_all()
        path = next(folder.glob("*.arrow"))
        path.unlink()
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
        source = SavedDataset(folder, DEFAULT)
        seconds.append(min(timeit.repeat(lambda: source.read(rows - 1), number=100, repeat=5)))  # noqa: B023
    assert seconds[1] < 5 * seconds[0]


def as_hub_files(made: Dataset, folder: Path, split: str, parts: int) -> None:
    """Write Parquet files as `push_to_hub` names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(parts):
        made.shard(parts, number, contiguous=True).to_parquet(
            folder / f"{split}-{number:05d}-of-{parts:05d}.parquet"
        )


def test_files_of_the_hub_are_read_in_order(made: Dataset, tmp_path: Path) -> None:
    as_hub_files(made, tmp_path / "hub" / "data", "train", 3)
    source = open_source(tmp_path / "hub", DEFAULT)
    assert isinstance(source, HubDataset)
    assert [row[:2] for row in told(source)] == [row[:2] for row in truth(made)]
    assert source.read(19).id == source.sample_id(19) == "train-00002-of-00003.parquet:6"


def test_splits_of_the_hub_are_kept_apart(made: Dataset, tmp_path: Path) -> None:
    as_hub_files(made, tmp_path / "hub" / "data", "train", 2)
    as_hub_files(made.select([4, 5]), tmp_path / "hub" / "data", "test", 1)
    with pytest.raises(DataError, match=r"2 splits: test, train; name one of them: .*hub/test"):
        open_source(tmp_path / "hub", DEFAULT)
    assert len(open_source(tmp_path / "hub" / "train", DEFAULT)) == 20
    assert len(open_source(tmp_path / "hub" / "test", DEFAULT)) == 2
    with pytest.raises(DataError, match="there is nothing at"):
        open_source(tmp_path / "hub" / "validation", DEFAULT)


def test_a_part_of_a_split_is_not_taken_for_the_whole(made: Dataset, tmp_path: Path) -> None:
    as_hub_files(made, tmp_path / "hub", "train", 4)
    (tmp_path / "hub" / "train-00002-of-00004.parquet").unlink()
    with pytest.raises(DataError, match="holds 3 files of train, but their names count 4"):
        open_source(tmp_path / "hub", DEFAULT)


def test_parquet_files_of_any_name_are_one_data_set(tmp_path: Path, picture) -> None:
    (tmp_path / "plain").mkdir()
    for number in range(2):
        table = pa.table({"image": [picture(number)], "caption": [f"colour {number}"]})
        pq.write_table(table, tmp_path / "plain" / f"{number:04d}.parquet")
    source = open_source(tmp_path / "plain", DEFAULT)
    assert told(source) == [(picture(0), ["colour 0"], None), (picture(1), ["colour 1"], None)]
    assert pickle.loads(pickle.dumps(source)).read(1) == source.read(1)
