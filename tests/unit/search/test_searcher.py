"""A searcher finds the current rows of a store from any number of threads, exactly or by the index."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from zebra.errors import ConfigError, StoreError
from zebra.search import index_recall, ivf_index, searcher, snapshot
from zebra.search.flat_index import FlatIndex
from zebra.search.searcher import Searcher
from zebra.store import Store
from zebra.workflows.search import build_index, open_searcher


def vector_of(number, width=8):
    return np.random.default_rng(number).standard_normal(width)


def ids(result):
    return [hit.id for hit in result.hits]


@pytest.fixture
def small_index(monkeypatch):
    """Make an index small enough for a test."""
    monkeypatch.setattr(ivf_index, "MIN_INDEX_ROWS", 10)
    monkeypatch.setattr(ivf_index, "ROWS_PER_PARTITION", {"IVF_SQ": 25, "IVF_RQ": 25})
    monkeypatch.setattr(index_recall, "NUM_QUERIES", 5)


@pytest.fixture
def indexed(store, small_index):
    """Return the path of the store after building an index."""
    build_index(store.path)
    return store.path


def test_a_row_is_found_by_its_own_vector_with_its_columns(store):
    result = open_searcher(store.path).search(vector_of(7), k=3)
    assert result.hits[0].id == "id-7"
    assert result.hits[0].score == pytest.approx(1, abs=1e-3)
    assert result.hits[0].row["caption"] == "Image 7"
    assert not {"vector", "thumbnail"} & set(result.hits[0].row)
    assert (result.has_more, result.method, result.recall, result.num_rows) == (True, "exact", None, 50)


def test_pages_cover_every_row_once(store):
    search = open_searcher(store.path)
    pages = [search.search(vector_of(1), k=20, offset=offset) for offset in (0, 20, 40)]
    assert sorted(id for page in pages for id in ids(page)) == sorted(f"id-{n}" for n in range(50))
    assert [page.has_more for page in pages] == [True, True, False]
    scores = [hit.score for page in pages for hit in page.hits]
    assert scores == sorted(scores, reverse=True)


def test_filters_keep_only_matching_rows(store):
    search = open_searcher(store.path)
    result = search.search(vector_of(1), k=50, where='year >= 2010 and not caption contains "image 1"')
    numbers = {int(id.removeprefix("id-")) for id in ids(result)}
    expected = {n for n in range(50) if n % 5 and n % 20 >= 10 and not (n % 3 and str(n).startswith("1"))}
    assert numbers == expected
    assert ids(search.search(vector_of(1), where="width > 100000")) == []


def test_a_missing_number_is_null_in_the_result(store):
    result = open_searcher(store.path).search(vector_of(7), k=1)
    assert result.hits[0].row["rating"] is None
    json.dumps(dict(result.hits[0].row), allow_nan=False)


def test_rows_appended_by_another_process_are_found_by_the_next_search(indexed, rows):
    searches = {method: open_searcher(indexed, method=method) for method in ("exact", "approximate")}
    for search in searches.values():
        assert "id-60" not in ids(search.search(vector_of(60), where="width >= 640"))
    with get_context("spawn").Pool(1) as pool:
        pool.apply(append, (indexed, rows(50, 70)))
    for method, search in searches.items():
        result = search.search(vector_of(60), where="width >= 640")
        assert ids(result)[0] == ids(search.search(vector_of(60)))[0] == "id-60"
        assert (result.num_rows, len(search), result.method) == (70, 70, method)
        assert search.read_row("id-69")["width"] == 709


def append(path, table):
    with Store.open(path) as store:
        store.append(table)


def test_only_new_rows_are_read_after_an_append_and_all_after_other_changes(store, rows, monkeypatch):
    offsets = []
    read_vectors = Store.read_vectors

    def record_offset(self, offset=0):
        offsets.append(offset)
        return read_vectors(self, offset)

    monkeypatch.setattr(Store, "read_vectors", record_offset)
    search = open_searcher(store.path)
    search.search(vector_of(1))
    append(store.path, rows(50, 52))
    append(store.path, rows(52, 55))
    assert ids(search.search(vector_of(53)))[0] == "id-53"
    assert offsets == [0, 50]
    with Store.open(store.path) as writer:
        writer.delete(["id-0"])
        writer.append(rows(60, 61))
    assert "id-0" not in ids(search.search(vector_of(0), k=60))
    assert offsets == [0, 50, 0]
    with Store.open(store.path) as writer:
        writer.delete(["id-60"])
        writer.append(rows(60, 61, vectors=-np.atleast_2d(vector_of(60))))
    assert "id-60" not in ids(search.search(vector_of(60), k=1))
    with Store.open(store.path) as writer:
        writer.update(["id-3"], {"caption": "changed"})
    assert search.search(vector_of(3), k=1).hits[0].row["caption"] == "changed"


def test_cached_columns_and_ids_grow_with_the_store(store, rows):
    search = open_searcher(store.path)
    where = "year is not null"
    before = ids(search.search(vector_of(1), k=100, where=where))
    assert search.read_row("id-1") is not None
    append(store.path, rows(50, 60))
    after = ids(search.search(vector_of(1), k=100, where=where))
    assert set(after) - set(before) == {f"id-{n}" for n in range(50, 60) if n % 5}
    assert search.read_row("id-59")["width"] == 699
    assert search.read_row("id-60") is None


def test_a_store_restored_to_an_older_version_is_read_again(store, rows):
    search = open_searcher(store.path)
    version = store.version
    append(store.path, rows(50, 55))
    assert len(search) == 55
    with Store.open(store.path) as writer:
        writer.restore(version)
        writer.append(rows(60, 65))
    assert ids(search.search(vector_of(62)))[0] == "id-62"
    assert ids(search.search(vector_of(52)))[0] != "id-52"


def test_many_threads_get_the_results_of_one_while_the_store_grows(store, rows):
    search = open_searcher(store.path)
    stop = threading.Event()

    def grow():
        for first in range(100, 200, 10):
            append(store.path, rows(first, first + 10))
        stop.set()

    def search_repeatedly(worker):
        num_searches = 0
        while not stop.is_set() or num_searches < 20:
            number = (worker * 7 + num_searches) % 50
            assert ids(search.search(vector_of(number), k=2, where="width >= 0"))[0] == f"id-{number}"
            num_searches += 1

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(search_repeatedly, worker) for worker in range(3)]
        pool.submit(grow).result()
        for future in futures:
            future.result()
    assert len(search) == 150


def test_near_duplicates_are_listed_under_the_best_of_them(store, rows):
    twins = np.stack([vector_of(7), vector_of(7) + 0.01 * vector_of(99), -vector_of(7)])
    append(store.path, rows(50, 53, vectors=twins / np.linalg.norm(twins, axis=1, keepdims=True)))
    search = open_searcher(store.path)
    best = search.search(vector_of(7), k=3, dedup=0.98).hits[0]
    assert best.id == "id-7"  # scores like the first twin, and precedes it in the store
    assert best.duplicates == ("id-50", "id-51")
    assert ids(search.search(vector_of(7), k=1, exclude=["id-7", "id-50"])) == ["id-51"]


def test_rows_are_searched_by_the_vectors_of_other_rows(store):
    search = open_searcher(store.path)
    vectors = search.read_vectors(["id-9", "id-2"])
    assert np.allclose(vectors[1], vector_of(2) / np.linalg.norm(vector_of(2)), atol=1e-3)
    assert ids(search.search(vectors[0], k=1, exclude=["id-9"])) == ids(search.search(vector_of(9), k=2))[1:]
    with pytest.raises(ConfigError, match="no row 'id-77'"):
        search.read_vectors(["id-77"])


def test_the_index_finds_the_hits_of_exact_search_and_reports_its_recall(indexed):
    approximate, exact = open_searcher(indexed, method="approximate"), open_searcher(indexed, method="exact")
    for number in range(0, 50, 7):
        where = None if number % 2 else "year is not null and rating < 45"
        result = approximate.search(vector_of(number), k=5, where=where, min_score=-0.5, dedup=0.999)
        exact_result = exact.search(vector_of(number), k=5, where=where, min_score=-0.5, dedup=0.999)
        assert ids(result) == ids(exact_result)
        assert [hit.score for hit in result.hits] == pytest.approx([hit.score for hit in exact_result.hits], abs=1e-6)
        assert dict(result.hits[0].row) == dict(exact_result.hits[0].row)
    metadata = json.loads((indexed / "index.json").read_text())
    assert (result.method, result.recall) == ("approximate", metadata["recall"])
    assert metadata["recall"] >= 0.95
    assert (metadata["num_rows"], metadata["num_partitions"], metadata["index_type"]) == (50, 2, "IVF_SQ")


def test_an_index_too_large_for_bytes_keeps_bits_and_finds_the_same_hits(store, small_index, monkeypatch):
    monkeypatch.setattr(ivf_index, "MAX_SQ_BYTES", 399)
    messages = []
    metadata = build_index(store.path, messages.append)
    assert metadata.index_type == "IVF_RQ"
    assert messages[0].startswith("building an index of 50 images, with up to ")
    assert min(metadata.image_recall, metadata.text_recall) == metadata.recall >= 0.95
    approximate, exact = (open_searcher(store.path, method=method) for method in ("approximate", "exact"))
    for number in range(0, 50, 7):
        where = None if number % 2 else "year is not null and rating < 45"
        assert ids(approximate.search(vector_of(number), where=where)) == ids(
            exact.search(vector_of(number), where=where)
        )


@pytest.mark.parametrize("change", [{"index_type": "IVF_RQ"}, {"centers": 3}, None])
def test_metadata_of_another_index_or_version_are_not_used(indexed, change, monkeypatch):
    text = (indexed / "index.json").read_text()
    (indexed / "index.json").write_text(json.dumps(json.loads(text) | change) if change else text[:30])
    with pytest.raises(ConfigError, match=r"no index that this version of zebra can use.* --index"):
        open_searcher(indexed, method="approximate").search(vector_of(1))
    monkeypatch.setattr(searcher, "MAX_EXACT_ROWS", 20)
    search = open_searcher(indexed)
    assert search.search(vector_of(1)).method == "exact"
    assert search.hint.endswith(f"Build one with: zebra search {indexed} --index")


@pytest.mark.parametrize("index_type", ["IVF_SQ", "IVF_RQ"])
def test_new_images_are_added_to_the_index_until_the_store_has_outgrown_it(
    store, rows, small_index, monkeypatch, index_type
):
    monkeypatch.setattr(ivf_index, "MAX_SQ_BYTES", 1 << 30 if index_type == "IVF_SQ" else 0)
    build_index(store.path)
    append(store.path, rows(50, 74))
    messages = []
    metadata = build_index(store.path, messages.append)
    assert messages[0] == "adding 24 images to the index"
    reopened = Store.open(store.path)
    assert (metadata.num_rows, reopened.num_indexed(), metadata.num_partitions) == (74, 74, 2)
    search = open_searcher(store.path, method="approximate")
    assert [ids(search.search(vector_of(number)))[0] for number in (7, 60)] == ["id-7", "id-60"]
    append(store.path, rows(74, 110))
    assert build_index(store.path, messages.append).num_partitions == 4
    assert messages[2].startswith("building an index of 110 images")


@pytest.mark.parametrize("resource", ["memory", "disk space"])
def test_an_index_that_does_not_fit_says_how_much_it_needs_before_it_is_built(
    store, small_index, monkeypatch, resource
):
    if resource == "memory":
        monkeypatch.setattr(ivf_index, "available_memory", lambda: 1000)
    else:
        monkeypatch.setattr(ivf_index.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    monkeypatch.setattr(Store, "build_index", lambda *_: pytest.fail("was built"))
    with pytest.raises(ConfigError, match=rf"needs \d+\.\d GB of {resource}.* for 50 vectors; 0.0 GB are available"):
        build_index(store.path)


def test_the_index_filters_texts_in_any_unicode_form(store, rows, small_index, monkeypatch):
    captions = [f"cafe\u0301 {n}" if n % 9 == 0 else f"stra\u00dfe cafe\u0302 {n}" for n in range(50, 150)]
    table = rows(50, 150)
    with Store.open(store.path) as writer:
        writer.append(table.set_column(table.schema.get_field_index("caption"), "caption", pa.array(captions)))
    monkeypatch.setattr(ivf_index, "ROWS_PER_PARTITION", {"IVF_SQ": 75})
    build_index(store.path)
    approximate, exact = open_searcher(store.path, method="approximate"), open_searcher(store.path, method="exact")
    for where, k in (
        ('caption contains "CAFÉ"', 3),
        ('caption contains "CAFÉ"', 20),
        ('not caption contains "strasse"', 90),
    ):
        expected = ids(exact.search(vector_of(1), k=k, where=where))
        assert len(expected) == min(k, 11 if "É" in where else 61)
        assert ids(approximate.search(vector_of(1), k=k, where=where)) == expected


def test_a_page_with_a_narrow_filter_is_filled_from_all_partitions(indexed, monkeypatch):
    metadata = json.loads((indexed / "index.json").read_text()) | {"nprobes": 1}
    (indexed / "index.json").write_text(json.dumps(metadata))
    result = open_searcher(indexed, method="approximate").search(vector_of(1), k=40, where="width < 670")
    assert len(result.hits) == 30
    for dedup in (None, 0.9):
        search = open_searcher(indexed, method="approximate")
        assert search.search(vector_of(1), where="width < 0", dedup=dedup, min_score=0.1).hits == ()


def test_auto_is_exact_until_the_store_is_large_and_then_uses_the_index(indexed, store, rows, monkeypatch):
    assert open_searcher(indexed).search(vector_of(1)).method == "exact"
    monkeypatch.setattr(searcher, "MAX_EXACT_ROWS", 20)
    search = open_searcher(indexed)
    assert search.search(vector_of(1)).method == "approximate"
    assert search.hint == ""
    append(indexed, rows(50, 70))
    assert ids(search.search(vector_of(66)))[0] == "id-66"
    assert "20 of 70 images are not in the index" in search.hint


def test_a_large_store_without_an_index_is_searched_exactly_with_a_hint(store, monkeypatch):
    monkeypatch.setattr(searcher, "MAX_EXACT_ROWS", 20)
    search = open_searcher(store.path)
    assert search.search(vector_of(1)).method == "exact"
    assert search.hint.endswith(f"Build one with: zebra search {store.path} --index")
    with pytest.raises(ConfigError, match="has no index"):
        open_searcher(store.path, method="approximate").search(vector_of(1))
    with pytest.raises(ConfigError, match="below 1,000"):
        build_index(store.path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_exact_search_says_how_much_memory_it_needs_before_it_reads(tmp_path, store, rows, monkeypatch, dtype):
    with Store.create(tmp_path / "other", replace(store.metadata, dtype=dtype)) as other:
        other.append(rows(0, 50).select(["id", "digest", "path", "vector"]))
    needed = 50 * 8 * {"float16": 2, "float32": 6}[dtype]
    monkeypatch.setattr(snapshot, "available_memory", lambda: needed - 1)
    monkeypatch.setattr(Store, "read_vectors", lambda *_: pytest.fail("read the vectors"))
    for method in ("auto", "exact"):
        search = open_searcher(tmp_path / "other", method=method)
        for call in (search.warm_up, lambda search=search: search.search(vector_of(1))):
            with pytest.raises(ConfigError, match=r"needs 0.0 GB of memory for 50 vectors.* --index"):
                call()
    monkeypatch.undo()
    monkeypatch.setattr(snapshot, "available_memory", lambda: needed)
    assert open_searcher(tmp_path / "other").search(vector_of(1)).method == "exact"


def test_auto_uses_the_index_when_the_vectors_do_not_fit_in_memory(indexed, rows, monkeypatch):
    monkeypatch.setattr(snapshot, "available_memory", lambda: 100)
    search = open_searcher(indexed)
    assert search.search(vector_of(1)).method == "approximate"
    append(indexed, rows(50, 70))
    assert ids(search.search(vector_of(66)))[0] == "id-66"
    assert "20 of 70 images are not in the index" in search.hint
    with pytest.raises(ConfigError, match=r"needs .* GB of memory"):
        open_searcher(indexed, method="exact").search(vector_of(1))
    monkeypatch.setattr(snapshot, "available_memory", lambda: None)
    assert open_searcher(indexed).search(vector_of(1)).method == "exact"


def test_vectors_that_are_loaded_stay_in_use_when_memory_gets_short(store, monkeypatch):
    search = open_searcher(store.path)
    assert search.search(vector_of(1)).method == "exact"
    monkeypatch.setattr(snapshot, "available_memory", lambda: 0)
    assert search.search(vector_of(2)).method == "exact"


def test_an_empty_store_gives_no_hits(tmp_path, store):
    Store.create(tmp_path / "empty", store.metadata)
    for method in ("auto", "exact", "approximate"):
        search = open_searcher(tmp_path / "empty", method=method)
        assert search.search(vector_of(1), dedup=0.9, where="width > 3").hits == ()
        assert search.read_image("id") is None
        assert search.read_thumbnail("id", 64) is None


def test_a_store_of_another_model_and_a_missing_one_are_rejected(store, tmp_path):
    open_searcher(store.path, fingerprint="f" * 64)
    with pytest.raises(StoreError, match=f"{'f' * 64}.*not comparable with those of {'e' * 64}"):
        open_searcher(store.path, fingerprint="e" * 64)
    with pytest.raises(StoreError, match="there is no store in"):
        open_searcher(tmp_path / "nothing")


def test_invalid_searches_are_rejected(store):
    search = open_searcher(store.path)
    with pytest.raises(ConfigError, match=r"no column 'widht'\. Did you mean 'width'"):
        search.search(vector_of(1), where="widht > 3")
    with pytest.raises(ConfigError, match="one vector of size 8"):
        search.search(np.ones(5))


def test_vectors_are_loaded_once_for_all_threads(store, monkeypatch):
    calls = []
    monkeypatch.setattr(
        snapshot,
        "FlatIndex",
        type("CountingIndex", (), {"from_vectors": lambda v: calls.append(1) or FlatIndex.from_vectors(v)}),
    )
    search = Searcher(Store.open(store.path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: search.search(vector_of(number)), range(8)))
    assert calls == [1]


def test_filterable_columns_have_a_kind(store):
    columns = dict(open_searcher(store.path).filterable_columns)
    assert columns["year"] == "number"
    assert columns["caption"] == "text"
    assert "vector" not in columns
    assert isinstance(store.schema, pa.Schema)
