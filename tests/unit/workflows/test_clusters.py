"""`zebra clusters`: what is grouped, how groups are named, and what is written."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest

from zebra.config.clusters import ClustersConfig
from zebra.errors import ConfigError, StoreError, WeightsError
from zebra.search.searcher import open_searcher
from zebra.store import Store, StoreMetadata
from zebra.workflows import clusters

WORDS = ("cat", "dog", "horse")
EXTRA = pa.schema({"year": pa.int32()})


@pytest.fixture
def make_store(tmp_path, clip, model):
    """Return a function that makes a store of 30 images near the vectors of three words."""
    vectors_WE = clip.encode_texts(WORDS).numpy()

    def make(*, captions=True, model=str(model), num_rows=30):
        group_N = np.arange(num_rows) % len(WORDS)
        noise_NE = 0.02 * np.random.default_rng(0).standard_normal((num_rows, clip.embed_dim))
        vectors_NE = (vectors_WE[group_N] + noise_NE).astype(np.float32)
        store = Store.create(
            tmp_path / "store", StoreMetadata(clip.fingerprint, model, clip.embed_dim, "fp32", "float32"), EXTRA
        )
        rows = {
            "id": [f"id-{n}" for n in range(num_rows)],
            "digest": ["0" * 64] * num_rows,
            "path": [f"/images/{n}.png" for n in range(num_rows)],
            "caption": pa.array([f"a {WORDS[group]}" if captions else None for group in group_N], pa.string()),
            "year": pa.array(2000 + group_N, pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), clip.embed_dim),
        }
        with store:
            if num_rows:
                store.append(pa.table(rows))
        return tmp_path / "store"

    return make


def read_column(store, name):
    with Store.open(store) as opened:
        return {row["id"]: row[name] for batch in opened.scan(["id", name]) for row in batch.to_pylist()}


def test_clusters_are_named_by_captions_and_written_to_table_page_and_column(make_store, cli, tmp_path):
    store = make_store()
    output = cli("clusters", store, "--out", "c.csv", "--page", "c.html", "--column", "cluster")
    lines = output.out.splitlines()
    assert sorted(line.split()[2] for line in lines) == sorted(WORDS)
    assert all(line.startswith("     10   0.0%") for line in lines)
    assert output.err.splitlines() == ["30 images in 3 clusters", "table: c.csv", "page: c.html", "column: cluster"]
    with (tmp_path / "c.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [(row["id"], row["name"]) for row in table] == [(f"id-{n}", WORDS[n % 3]) for n in range(30)]
    page = (tmp_path / "c.html").read_text()
    assert page.count("data:image/png;base64") == 30
    assert "<h2>horse</h2>" in page
    assert open_searcher(store).list_rows('cluster = "dog"', k=20).num_matches == 10
    assert "0 probable label errors among 30 images" in cli("outliers", store, "--label", "cluster").err


def test_a_filter_clusters_a_part_and_clears_the_column_elsewhere(make_store, cli):
    store = make_store()
    cli("clusters", store, "--column", "cluster")
    cli("clusters", store, "--column", "cluster", "--where", "year < 2002", "--num-clusters", "1")
    names = read_column(store, "cluster")
    assert {name for id, name in names.items() if int(id[3:]) % 3 == 2} == {None}
    assert len({name for id, name in names.items() if int(id[3:]) % 3 < 2}) == 1
    cli("columns", store, "--drop", "cluster")


def test_names_from_a_file_are_compared_by_the_model_of_the_store(make_store, cli, tmp_path):
    (tmp_path / "words.txt").write_text("horse\ndog\ncat\nzebra\n")
    document = json.loads(cli("clusters", make_store(captions=False), "--words", "words.txt", "--json").out)
    assert document["images"] == 30
    for cluster in document["clusters"]:
        (group,) = {int(row["id"][3:]) % 3 for row in cluster["nearest"]}
        assert cluster["name"] == WORDS[group]
        assert (cluster["size"], len(cluster["nearest"]), cluster["outliers"]) == (10, 10, 0)


def test_a_store_without_captions_gets_numbers_and_a_note(make_store, cli):
    store = make_store(captions=False)
    output = cli("clusters", store, "--num-clusters", "3")
    assert "cluster 3" in output.out
    assert "no captions to take names from; give words with --words FILE" in output.err
    with pytest.raises(ConfigError, match=r"no image of .*store has a caption to take names from.*--words FILE"):
        clusters.run(ClustersConfig(store=str(store), words="captions"))


def test_a_model_that_is_not_at_hand_is_needed_for_names_from_a_file_only(make_store, tmp_path):
    store = make_store(model=str(tmp_path / "moved"))
    assert len(clusters.run(ClustersConfig(store=str(store))).clusters) == 3
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    with pytest.raises(
        WeightsError, match=r"embedded by this model, and texts are compared by it; if it has moved, pass --model MODEL"
    ):
        clusters.run(ClustersConfig(store=str(store), words=str(tmp_path / "words.txt")))


def test_another_model_is_refused(make_store, tmp_path):
    from ...tiny_model import save_tiny_model

    other = save_tiny_model(tmp_path / "other", seed=1)
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    config = ClustersConfig(store=str(make_store()), words=str(tmp_path / "words.txt"), model=str(other))
    with pytest.raises(StoreError, match="not comparable"):
        clusters.run(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_clusters": 31}, r"31 clusters need as many images; there are 30"),
        ({"where": "year > 3000"}, r"no image of .* matches --where 'year > 3000'\. Use another filter"),
        ({"where": "weight > 1"}, r"weight"),
        ({"column": "caption"}, r"zebra embed fills the column 'caption'"),
        ({"column": "year"}, r"zebra embed fills the column 'year'"),
        ({"column": "a.b"}, r"'a\.b' is no name for a column"),
        ({"words": "missing.txt"}, r"cannot read labels from missing\.txt"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(make_store, settings, message):
    with pytest.raises(ConfigError, match=message):
        clusters.run(ClustersConfig(store=str(make_store()), **settings))


def test_settings_are_checked_before_the_store_is_opened():
    with pytest.raises(ConfigError, match=r"--num-clusters is 0; it must be auto, or from 1 to 1,000"):
        ClustersConfig(store="missing", num_clusters=0)
    with pytest.raises(ConfigError, match=r"--out clusters\.xlsx: unknown suffix\. Use \.csv or \.parquet"):
        ClustersConfig(store="missing", out="clusters.xlsx")


def test_an_empty_store_is_refused(make_store):
    with pytest.raises(ConfigError, match=r"has no images\. Embed some"):
        clusters.run(ClustersConfig(store=str(make_store(num_rows=0))))
