"""Facets count the values of columns, each without its own selection."""

import numpy as np
import pyarrow as pa
import pytest

from zebra.errors import ConfigError
from zebra.search.facets import NUM_BINS
from zebra.search.searcher import open_searcher
from zebra.store import Store, StoreMetadata

METADATA = StoreMetadata("a" * 16, "model", 4, "fp32", "float16")
COLUMNS = pa.schema(
    [
        ("artist", pa.string()),
        ("stars", pa.int64()),
        ("year", pa.int64()),
        ("price", pa.float64()),
        ("seen", pa.timestamp("us")),
        ("tame", pa.bool_()),
        ("title", pa.string()),
        ("label", pa.int64()),
        ("nothing", pa.string()),
        ("constant", pa.string()),
    ]
)
NUM_ROWS = 60


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    path = tmp_path_factory.mktemp("facets") / "store"
    numbers = range(NUM_ROWS)
    vectors_NE = np.random.default_rng(0).normal(size=(NUM_ROWS, 4)).astype(np.float32)
    columns = {
        "id": [f"id-{n}" for n in numbers],
        "digest": [f"{n}" for n in numbers],
        "path": [f"/data/{n}.png" for n in numbers],
        "artist": [("noto", 'o"penmoji', None)[n % 3] for n in numbers],
        "stars": [n % 5 for n in numbers],
        "year": [1990 + n for n in numbers],
        "price": [float("nan") if n == 0 else float(n) for n in numbers],
        "seen": pa.array([n * 86_400_000_000 for n in numbers], pa.timestamp("us")),
        "tame": [n % 2 == 0 for n in numbers],
        "title": [f"title {n}" for n in numbers],
        "constant": ["same"] * NUM_ROWS,
        "label": list(numbers),  # class numbers are no quantity
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_NE.ravel()), 4),
    }
    with Store.create(path, METADATA, COLUMNS) as store:
        store.append(pa.table(columns))
    return open_searcher(path)


def facets(searcher, *args):
    return {facet.name: facet for facet in searcher.count_facets(*args).facets}


def test_columns_that_do_not_divide_the_rows_are_no_facets(searcher):
    kinds = {name: facet.kind for name, facet in facets(searcher).items()}
    assert kinds == {
        "artist": "category",
        "stars": "category",
        "year": "number",
        "price": "number",
        "seen": "date",
        "tame": "category",
    }


def test_values_are_counted_most_frequent_first_and_missing_ones_apart(searcher):
    artist = facets(searcher)["artist"]
    assert (artist.values, artist.num_missing) == ((("noto", 20), ('o"penmoji', 20)), 20)
    assert dict(facets(searcher, "stars < 2")["stars"].values) == {0: 12, 1: 12}


def test_a_facet_ignores_its_own_selection_and_obeys_the_others(searcher):
    counts = searcher.count_facets(None, {"artist": 'artist = "noto"', "stars": "stars in (0, 1)"})
    by_name = {facet.name: dict(facet.values) for facet in counts.facets}
    expected = [n for n in range(NUM_ROWS) if n % 5 < 2]
    assert by_name["artist"] == {
        name: sum(n % 3 == k for n in expected) for k, name in enumerate(("noto", 'o"penmoji'))
    }
    assert by_name["stars"] == dict.fromkeys(range(5), 4)
    assert counts.num_matches == sum(n % 3 == 0 for n in expected)
    assert counts.num_rows == NUM_ROWS


def test_numbers_and_dates_have_a_range_and_a_histogram_of_the_selected_rows(searcher):
    by_name = facets(searcher, "year < 2000")
    price, seen = by_name["price"], by_name["seen"]
    assert (price.low, price.high, price.num_missing) == (1.0, 59.0, 1)
    assert (len(price.histogram), sum(price.histogram)) == (NUM_BINS, 9)
    assert (seen.low.isoformat(), seen.high.isoformat()) == ("1970-01-01T00:00:00", "1970-03-01T00:00:00")
    assert sum(seen.histogram) == 10


def test_no_rows_have_facets_without_counts(searcher):
    by_name = facets(searcher, "year > 5000")
    assert by_name["artist"].values == ()
    assert sum(by_name["price"].histogram) == 0


def test_an_invalid_selection_is_refused(searcher):
    with pytest.raises(ConfigError, match="there is no column 'artits'"):
        searcher.count_facets(None, {"artist": 'artits = "noto"'})


def test_rows_are_listed_without_a_query_newest_first_or_by_id(searcher):
    newest = searcher.list_rows(k=2, newest_first=True)
    assert [row["id"] for row in newest.rows] == ["id-59", "id-58"]
    assert (newest.num_matches, newest.num_rows, newest.has_more) == (60, 60, True)
    last = searcher.list_rows(k=50, offset=50, newest_first=True)
    assert ([row["id"] for row in last.rows][-1], last.has_more) == ("id-0", False)
    some = searcher.list_rows("stars = 0", ids=["id-5", "id-1", "gone", "id-0"])
    assert ([row["id"] for row in some.rows], some.num_matches) == (["id-5", "id-0"], 2)


def test_a_search_counts_the_rows_that_match_its_filter(searcher):
    query = np.ones(4)
    assert searcher.search(query, k=3).num_matches == 60
    assert searcher.search(query, k=3, where="stars = 0").num_matches == 12
