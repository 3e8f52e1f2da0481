"""`zebra outliers`: unusual images and probable label errors of a store."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra.config.outliers import OutliersConfig
from zebra.errors import ConfigError
from zebra.search.searcher import open_searcher
from zebra.store import Store, StoreMetadata
from zebra.workflows import outliers

LABELS = ("cat", "dog", "horse")
COLUMNS = pa.schema({"class": pa.string(), "number": pa.int64(), "weight": pa.float64()})


@pytest.fixture
def store(tmp_path):
    """Return a store of 60 images in three groups, and two unlike all others; images 4 and 7 have a wrong class."""
    rng = np.random.default_rng(0)
    vectors_NE = rng.standard_normal((3, 16))[np.arange(60) % 3] + 0.2 * rng.standard_normal((60, 16))
    vectors_NE = np.concatenate([vectors_NE, 3 * rng.standard_normal((2, 16))]).astype(np.float32)
    classes = [LABELS[n % 3] for n in range(60)] + [None, "rare"]
    classes[4], classes[7] = "horse", "cat"
    rows = {
        "id": [f"id-{n}" for n in range(62)],
        "digest": ["0" * 64] * 62,
        "path": [f"/images/{n}.png" for n in range(62)],
        "caption": [f"Image {n}" for n in range(62)],
        "class": pa.array(classes, pa.string()),
        "number": pa.array([None if name is None else len(name) for name in classes], pa.int64()),
        "weight": pa.array(range(62), pa.float64()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), 16),
    }
    with Store.create(tmp_path / "store", StoreMetadata("f" * 16, "model", 16, "fp32", "float32"), COLUMNS) as made:
        made.append(pa.table(rows))
    return tmp_path / "store"


def run(store, **settings):
    return outliers.run(OutliersConfig(store=str(store), **settings))


def test_images_unlike_all_others_come_first(store, cli, tmp_path):
    output = cli("outliers", store, "-k", 3, "--out", "o.parquet", "--page", "o.html", "--column", "unusual")
    paths = [line.split()[1] for line in output.out.splitlines()]
    assert (set(paths[:2]), len(paths)) == ({"/images/60.png", "/images/61.png"}, 3)
    assert "2 outliers among 62 images, compared\n" in output.err
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.filter(table["outlier"])["id"].to_pylist() == ["id-60", "id-61"]
    page = (tmp_path / "o.html").read_text()
    assert page.count("data:image/png;base64") == 3
    assert page.count(", no outlier") == 1
    lowest = min(table["score"].to_pylist()[60:])
    assert open_searcher(store).list_rows(f"unusual >= {lowest - 0.001}").num_matches == 2


def test_wrong_labels_are_listed_with_the_suggested_ones(store, cli, tmp_path):
    output = cli("outliers", store, "--label", "class", "--out", "l.csv", "--column", "suggested", "--page", "l.html")
    assert sorted(line.split("  ")[-3] for line in output.out.splitlines()) == ["cat → dog", "horse → dog"]
    assert "1 images without a value of class were not compared" in output.err
    assert "1 images with a label of fewer than 3 images were not compared" in output.err
    assert "2 probable label errors among 60 images, compared\n" in output.err
    with (tmp_path / "l.csv").open() as stream:
        assert {row["id"]: row["suggested"] for row in csv.DictReader(stream) if row["suggested"]} == {
            "id-4": "dog",
            "id-7": "dog",
        }
    found = open_searcher(store).list_rows("suggested is not null")
    assert {row["id"] for row in found.rows} == {"id-4", "id-7"}
    assert "horse → dog" in (tmp_path / "l.html").read_text()


def test_whole_numbers_are_labels_too(store, cli):
    document = json.loads(cli("outliers", store, "--label", "number", "--where", 'class != "rare"', "--json").out)
    # cat and dog have the same length
    assert [(hit["id"], hit["label"], hit["suggested"]) for hit in document["hits"]] == [("id-4", "5", "3")]
    assert document["left_out"] == {}


def test_a_store_without_label_errors_says_so(store, cli, tmp_path):
    output = cli("outliers", store, "--label", "class", "--where", "weight >= 8", "--page", "none.html")
    assert output.out == ""
    assert "0 probable label errors among 52 images" in output.err
    assert "<h1>Label errors of store</h1>" in (tmp_path / "none.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "kind"}, r"the column 'kind' is missing\. Columns with labels: .*class, number"),
        ({"label": "weight"}, r"the column 'weight' cannot be labels: use text, whole numbers or yes/no"),
        ({"label": "class", "where": 'class = "cat"'}, r"two labels of at least 3 images each.*has cat\. Use another"),
        ({"where": "weight < 2"}, r"2 images are too few to compare; there must be 3"),
        ({"where": "weight > 1000"}, r"no image of .* matches --where"),
        ({"column": "class"}, r"zebra embed fills the column 'class'"),
        ({"k": 0}, r"must be at least 1"),
        ({"neighbors": 0}, r"must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(store, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(store, **settings)


def test_a_column_of_another_type_is_not_overwritten(store):
    run(store, column="result")
    with pytest.raises(ConfigError, match=r"holds float, and the results are string.*--drop result"):
        run(store, column="result", label="class")
