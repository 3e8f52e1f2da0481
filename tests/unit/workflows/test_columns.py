"""`workflows.columns`: list, join and remove the columns of a store."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from zebra.config.columns import ColumnsConfig
from zebra.config.embed import EmbedConfig
from zebra.data.shard_writer import ShardWriter
from zebra.errors import ConfigError, DataError, StoreError
from zebra.search.searcher import open_searcher
from zebra.store import Store
from zebra.workflows import embed
from zebra.workflows.columns import run

from ...tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a model, five images in two class folders, and their store."""
    home = tmp_path_factory.mktemp("home")
    save_tiny_model(home / "model")
    for number, name in enumerate(("cats/0", "cats/1", "dogs/0", "dogs/2", "dogs/3")):
        path = home / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 60)).save(path)
    embed_photos(home)
    return home


def embed_photos(home, **options):
    config = {"data": str(home / "photos"), "precision": "fp32", "workers": 1} | options
    return embed.run(EmbedConfig(model=str(home / "model"), out=str(home / "store"), **config))


@pytest.fixture
def home(made, tmp_path):
    """Return a copy of the store, which a test may change."""
    shutil.copytree(made / "store", tmp_path / "store")
    for name in ("model", "photos"):
        (tmp_path / name).symlink_to(made / name)
    return tmp_path


def columns(home, text=None, name="t.csv", **options):
    """Write a table and join it; without text, only list or drop."""
    if text is not None:
        (home / name).write_text(text)
        options["table"] = str(home / name)
    return run(ColumnsConfig(store=str(home / "store"), **options))


def values(home, column):
    store = Store.open(home / "store")
    rows = [row for batch in store.scan(["path", column]) for row in batch.to_pylist()]
    return {"/".join(row["path"].split("/")[-2:]): row[column] for row in rows if row[column] is not None}


def test_a_table_is_joined_by_path_and_every_row_that_is_not_used_is_counted(home):
    table = "path,stars,who\ncats/0.png,5,Ada\ndogs/3.png,1,\nbirds/1.png,2,x\ncats/0.png,4,y\n,3,z\n"
    result = columns(home, table)
    assert (result.join.num_matched, result.join.on) == (2, "path")
    assert result.join.unmatched == {"no image at this path": 1, "path of an earlier row": 1, "no path": 1}
    assert "birds/1.png" in result.join.examples["no image at this path"]
    assert values(home, "stars") == {"cats/0.png": 5, "dogs/3.png": 1}
    listed = {column.name: (column.num_values, column.is_joined) for column in result.columns}
    assert listed == {
        "class": (5, False),
        "taken": (0, False),
        "camera": (0, False),
        "stars": (2, True),
        "who": (1, True),
    }


def test_a_table_is_joined_by_id_even_if_it_has_paths_of_other_machines(home):
    store = Store.open(home / "store")
    ids = [row["id"] for batch in store.scan(["id"]) for row in batch.to_pylist()]
    rows = [{"id": id, "path": "/elsewhere/x.png", "stars": number} for number, id in enumerate(ids)]
    result = columns(home, "".join(json.dumps(row) + "\n" for row in rows), "t.jsonl")
    assert (result.join.on, result.join.num_matched) == ("id", 5)
    assert sorted(values(home, "stars").values()) == [0, 1, 2, 3, 4]


def test_absolute_paths_relative_to_the_table_and_file_names_are_found(home, made):
    absolute = made / "photos" / "cats" / "1.png"
    result = columns(home, f"image,a\n{absolute},1\n./dogs/../dogs/2.png,2\n2.png,3\n0.png,4\n")
    assert values(home, "a") == {"cats/1.png": 1, "dogs/2.png": 2}
    assert sum(result.join.unmatched.values()) == 2


def test_joined_values_survive_embedding_again(home):
    columns(home, "path,stars\ncats/0.png,5\ndogs/2.png,2\n")
    assert embed_photos(home).unchanged == 5
    assert embed_photos(home, columns=("latitude",)).reused == 5  # every row is written again
    assert values(home, "stars") == {"cats/0.png": 5, "dogs/2.png": 2}
    with pytest.raises(ConfigError, match=r"was joined from a table"):
        (home / "t2.csv").write_text("path,stars\nphotos/cats/0.png,1\n")
        embed_photos(home, data=str(home / "t2.csv"), columns=("stars",))


def test_joining_again_changes_only_the_rows_of_the_table(home):
    columns(home, "path,stars\ncats/0.png,5\ndogs/2.png,2\n")
    columns(home, "path,stars\ncats/0.png,1\ncats/1.png,3\n")
    assert values(home, "stars") == {"cats/0.png": 1, "cats/1.png": 3, "dogs/2.png": 2}
    result = columns(home, "path,stars\ncats/0.png,many\ncats/1.png,4\n")
    assert result.join.unmatched == {"column of another type": 1}


def test_joined_columns_filter_a_search_that_is_already_open(home):
    searcher = open_searcher(home / "store")
    assert searcher.list_rows('class = "cats"').num_matches == 2
    columns(home, "path,stars,day\ncats/0.png,5,2021-05-03\ndogs/2.png,2,2022-01-01\n")
    assert [row["stars"] for row in searcher.list_rows("day < 2022-01-01 and stars > 1").rows] == [5]


def test_a_table_that_matches_nothing_changes_nothing_and_says_what_to_give(home):
    version = Store.open(home / "store").version
    with pytest.raises(DataError, match=r"no row of .* matches an image .*: 1 no image at this path, first line 2"):
        columns(home, "path,stars\nnone.png,5\n")
    with pytest.raises(DataError, match=r"no column to join by"):
        columns(home, "name,stars\nnone.png,5\n")
    assert Store.open(home / "store").version == version


def test_columns_of_zebra_and_of_embed_are_not_joined(home):
    columns(home, "path,caption,class,stars\ncats/0.png,x,y,5\n")
    assert values(home, "class")["cats/0.png"] == "cats"
    assert values(home, "caption") == {}
    for name, reason in (("class", "zebra embed fills it"), ("caption", "cannot have one of this name")):
        with pytest.raises(ConfigError, match=reason):
            columns(home, "path,caption,class\ncats/0.png,x,y\n", columns=(name,))
    with pytest.raises(ConfigError, match="Did you mean 'stars'"):
        columns(home, "path,stars\ncats/0.png,5\n", columns=("star",))


def test_a_column_can_be_removed_and_those_of_zebra_cannot(home):
    columns(home, "path,stars\ncats/0.png,5\n")
    names = [column.name for column in columns(home, drop=("stars", "taken")).columns]
    assert names == ["class", "camera"]
    with pytest.raises(ConfigError, match="zebra's own"):
        columns(home, drop=("stamp",))
    with pytest.raises(StoreError, match="no column 'stars'"):
        columns(home, drop=("stars",))


def test_images_in_shards_and_tables_are_found_by_member_and_row(home):
    image = (home / "photos" / "cats" / "0.png").read_bytes()
    with ShardWriter(home / "shards") as writer:
        writer.write("first", {"png": image})
    pq.write_table(pa.table({"image": [image]}), home / "in.parquet")
    embed_photos(home, data=str(home / "shards"))
    embed_photos(home, data=str(home / "in.parquet"))
    result = columns(home, "path,stars\n00000.tar/first,1\nin.parquet:1,2\n")
    assert result.join.num_matched == 2
    assert result.join.unmatched == {}
