"""Search by shorter vectors: first components of a Matryoshka model, or principal axes of the store."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zebra.cli.main import main
from zebra.config.embed import EmbedConfig
from zebra.config.search import SearchConfig
from zebra.errors import ConfigError, StoreError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.search.searcher import open_searcher
from zebra.search.short_vectors import AXES_FILE
from zebra.store import Store
from zebra.workflows import embed, search

from ...tiny_model import build_tiny_model


def draw(folder, numbers):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"image {number}")
    return folder


def run_embed(model, data, out, **options):
    return embed.run(
        EmbedConfig(model=str(model), data=str(data), out=str(out), precision="fp32", workers=1, **options)
    )


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    root = tmp_path_factory.mktemp("short")
    clip = build_tiny_model()
    clip.model.config = replace(clip.model.config, dimensions=(8, 16))
    Bundle(clip.model, clip.tokenizer, clip.preprocess).save(root / "model")
    draw(root / "data", range(12))
    run_embed(root / "model", root / "data", root / "store", vector_dtype="float32")
    run_embed(root / "model", root / "data", root / "store-8", vector_dtype="float32", dimensions=8)
    return root


def ranking(vectors_NE, query_E):
    unit_NE = vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return np.argsort(-(unit_NE @ query_E)).tolist()


def stored(store):
    ids, vectors_NE = Store.open(store).read_vectors()
    return ids.to_pylist(), vectors_NE


def query(assets, **options):
    clip = load(assets / "model", **options)
    return clip.encode_texts(["a striped cat"])[0].numpy()


def hits(searcher, query_E):
    return [hit.id for hit in searcher.search(query_E, k=12).hits]


@pytest.mark.parametrize("size", [8, 16])
def test_first_components_rank_as_those_vectors_do(assets, size):
    ids, vectors_NE = stored(assets / "store")
    searcher = open_searcher(assets / "store").shorten(size, (8, 16))
    expected = [ids[row] for row in ranking(vectors_NE[:, :size], query(assets, dimensions=size))]
    assert hits(searcher, query(assets)) == expected


def test_a_store_of_short_vectors_is_searched_with_full_and_with_short_queries(assets):
    ids, vectors_NE = stored(assets / "store-8")
    assert vectors_NE.shape == (12, 8)
    expected = [ids[row] for row in ranking(vectors_NE, query(assets, dimensions=8))]
    searcher = open_searcher(assets / "store-8", fingerprint=load(assets / "model").fingerprint)
    assert hits(searcher, query(assets)) == hits(searcher, query(assets, dimensions=8)) == expected
    result = search.run(SearchConfig(store=str(assets / "store-8"), query="a striped cat", like=(ids[3],), k=12))
    assert len(result.results[0].result.hits) == 11


def test_embedding_into_a_store_of_short_vectors_goes_on_with_them(assets, tmp_path):
    data = draw(tmp_path / "data", range(3))
    run_embed(assets / "model", data, tmp_path / "store", dimensions=8)
    draw(data, [3])
    assert run_embed(assets / "model", data, tmp_path / "store").embedded == 1
    assert stored(tmp_path / "store")[1].shape == (4, 8)
    with pytest.raises(StoreError, match="-16"):
        run_embed(assets / "model", data, tmp_path / "store", dimensions=16)


def test_principal_axes_rank_as_the_projected_vectors_do_and_include_rows_appended_later(assets, tmp_path):
    data = draw(tmp_path / "data", range(12))
    run_embed(assets / "model", data, tmp_path / "store", vector_dtype="float32")
    axes_EE = np.load(search.fit_axes(tmp_path / "store"))
    searcher = open_searcher(tmp_path / "store").shorten(5, (8, 16))
    searcher.warm_up()
    draw(data, range(12, 15))
    run_embed(assets / "model", data, tmp_path / "store")
    ids, vectors_NE = stored(tmp_path / "store")
    query_K = query(assets) @ axes_EE[:, :5]
    expected = [ids[row] for row in ranking(vectors_NE @ axes_EE[:, :5], query_K / np.linalg.norm(query_K))]
    assert [hit.id for hit in searcher.search(query(assets), k=15).hits] == expected


def test_the_command_line_fits_axes_and_searches_by_them(assets, tmp_path, capsys):
    run_embed(assets / "model", assets / "data", tmp_path / "store")
    store = str(tmp_path / "store")
    assert main(["search", store, "a cat", "--dimensions", "5"]) == 1
    assert "not trained for vectors of 5 dimensions, but for 8, 16, 32" in capsys.readouterr().err
    assert main(["search", store, "--pca"]) == 0
    assert main(["search", store, "a cat", "--dimensions", "5", "-k", "3"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 4


@pytest.mark.parametrize("size", [0, -1, 33])
def test_sizes_out_of_range_are_refused(assets, size):
    with pytest.raises(ConfigError, match=f"dimensions is {size}; the vectors of .* have 32"):
        open_searcher(assets / "store").shorten(size, (8, 16))


def test_the_full_size_needs_nothing_and_an_index_holds_full_vectors(assets):
    assert open_searcher(assets / "store").shorten(32, ()).shortening is None
    with pytest.raises(ConfigError, match="the index holds full vectors"):
        open_searcher(assets / "store", method="approximate").shorten(8, (8,))


@pytest.mark.parametrize("content", [b"", b"not axes", "other"])
def test_damaged_axes_are_refused(assets, tmp_path, content):
    run_embed(assets / "model", assets / "data", tmp_path / "store")
    path = tmp_path / "store" / AXES_FILE
    if content == "other":
        np.save(path, np.eye(4, dtype=np.float32))
    else:
        path.write_bytes(content)
    with pytest.raises(StoreError, match="--pca"):
        open_searcher(tmp_path / "store").shorten(5, ())
