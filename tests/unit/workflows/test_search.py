"""`workflows.search`: search by text, image, row and file of queries, with notes."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zebra.config.embed import EmbedConfig
from zebra.config.search import SearchConfig
from zebra.errors import ConfigError, DataError, StoreError, WeightsError
from zebra.pretrained.load import load
from zebra.report.search import write_search_page
from zebra.search.query import combine_vectors
from zebra.search.results import image_path, path_in_dataset
from zebra.workflows import embed
from zebra.workflows import search as workflow

from ...tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with two models, twelve images, and their store made with the first model."""
    home = tmp_path_factory.mktemp("home")
    save_tiny_model(home / "model")
    save_tiny_model(home / "other", seed=1)
    (home / "photos").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 60)).save(home / "photos" / f"{number:02d}.png")
        (home / "photos" / f"{number:02d}.txt").write_text(f"image {number}")
    embed.run(
        EmbedConfig(
            model=str(home / "model"), data=str(home / "photos"), out=str(home / "store"), precision="fp32", workers=1
        )
    )
    return home


@pytest.fixture
def search(home):
    """Return a function that searches the store."""
    return lambda **options: workflow.run(SearchConfig(**({"store": str(home / "store")} | options)))


def captions(query_result):
    return [hit.row["caption"] for hit in query_result.result.hits]


def test_a_text_query_ranks_images_by_cosine(home, search):
    (query_result,) = search(query="a red horse", k=12).results
    clip = load(home / "model")
    images_NE = clip.encode_images(sorted((home / "photos").glob("*.png")))
    scores_N = images_NE @ clip.encode_texts(["a red horse"])[0]
    assert captions(query_result) == [f"image {number}" for number in scores_N.argsort(descending=True)]
    assert [hit.score for hit in query_result.result.hits] == pytest.approx(
        scores_N.sort(descending=True).values, abs=1e-3
    )


def test_an_image_finds_itself_and_texts_move_the_query(home, search):
    photo = str(home / "photos" / "05.png")
    result = search(query=photo, k=2)
    assert captions(result.results[0])[0] == "image 5"
    assert captions(search(image=photo, k=1).results[0]) == ["image 5"]
    clip = load(home / "model")
    expected = combine_vectors(
        [
            (clip.encode_images([photo])[0], 1.0),
            (clip.encode_texts(["snow"])[0], 1.0),
            (clip.encode_texts(["a"])[0], -1.0),
        ]
    )
    page = result.searcher.search(expected, k=12)
    mixed = search(query="snow", image=photo, without=("a",), k=12).results[0]
    assert [hit.id for hit in mixed.result.hits] == [hit.id for hit in page.hits]
    assert mixed.query == f"snow + {photo} − a"


def test_a_search_like_a_row_needs_no_model_and_excludes_the_row(home, search, monkeypatch):
    id = search(query=str(home / "photos" / "03.png"), k=1).results[0].result.hits[0].id
    monkeypatch.setattr(workflow, "load_store_model", None)
    hits = search(like=(id,), k=12).results[0].result.hits
    assert len(hits) == 11
    assert id not in {hit.id for hit in hits}


def test_each_line_of_a_file_is_a_query_and_blank_lines_are_ignored(search, tmp_path):
    (tmp_path / "captions.txt").write_text("a horse\n\n  snow \n")
    result = search(queries=str(tmp_path / "captions.txt"), k=3)
    assert [query_result.query for query_result in result.results] == ["a horse", "snow"]
    assert captions(result.results[1]) == captions(search(query="snow", k=3).results[0])


def test_a_query_longer_than_the_context_adds_a_note(search):
    result = search(query="horse " * 40)
    assert "is longer than the model's context of 16 tokens" in result.notes[0]
    assert len(result.results[0].result.hits) == 10
    assert search(query="a horse").notes == ()


def test_each_mistake_has_its_own_error(home, search, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        search(store=str(tmp_path), query="x")
    with pytest.raises(StoreError, match="not comparable"):
        search(query="x", model=str(home / "other"))
    with pytest.raises(DataError, match=r"there is no image at gone\.jpg"):
        search(query="gone.jpg")
    with pytest.raises(ConfigError, match="--not takes texts"):
        search(query="x", without=("gone.jpg",))
    (tmp_path / "paths.txt").write_text("a horse\nphotos/5.png\n")
    with pytest.raises(ConfigError, match=r"--queries .*paths\.txt takes texts, but photos/5\.png"):
        search(queries=str(tmp_path / "paths.txt"))
    with pytest.raises(ConfigError, match=r"no column 'heigth'\. Did you mean 'height'"):
        search(query="x", where="heigth > 3")
    with pytest.raises(ConfigError, match="nothing to search for"):
        search()
    with pytest.raises(ConfigError, match="--queries excludes the query"):
        search(query="x", queries="file")
    (tmp_path / "blank.txt").write_text("\n")
    with pytest.raises(ConfigError, match="contains no queries"):
        search(queries=str(tmp_path / "blank.txt"))
    with pytest.raises(DataError, match="cannot read the queries"):
        search(queries=str(tmp_path / "gone.txt"))


def test_a_moved_model_can_be_passed(home, search):
    shutil.copytree(home / "model", home / "moved")
    (home / "model").rename(home / "hidden")
    try:
        with pytest.raises(WeightsError, match="if it has moved, pass --model MODEL"):
            search(query="a horse")
        assert search(query="a horse", model=str(home / "moved")).results[0].result.hits
    finally:
        (home / "hidden").rename(home / "model")


def test_the_page_shows_every_hit_with_its_image_or_a_placeholder(home, search, tmp_path):
    shutil.copytree(home / "store", tmp_path / "store")
    result = search(store=str(tmp_path / "store"), query="a horse", k=3)
    write_search_page(result, tmp_path / "hits.html")
    page = (tmp_path / "hits.html").read_text()
    assert page.count("data:image/png") == 3
    assert all(caption in page for caption in captions(result.results[0]))
    row = result.searcher.read_row(result.results[0].result.hits[0].id)
    missing = home / "photos" / f"{row['caption'].split()[-1]:0>2}.png"
    data = missing.read_bytes()
    missing.unlink()
    try:
        write_search_page(result, tmp_path / "hits.html")
        assert (tmp_path / "hits.html").read_text().count("data:image/png") == 3
    finally:
        missing.write_bytes(data)


def test_a_notebook_shows_each_hit_with_its_image_caption_and_score(search):
    result = search(query="a <horse>", k=3)
    html = result._repr_html_()
    assert html.count('<img src="data:image/') == html.count("<figure") == 3
    assert "a &lt;horse&gt;" in html
    for hit in result.results[0].result.hits:
        assert f"<figcaption>{hit.score:.3f} {hit.row['caption']}<" in html
        assert hit.id not in html
    assert "<script" not in html


def test_a_page_without_hits_says_so(search, tmp_path):
    write_search_page(search(query="a horse", where="width > 1000"), tmp_path / "hits.html")
    assert "No images found." in (tmp_path / "hits.html").read_text()


def test_a_filter_without_a_query_lists_its_rows_page_by_page(home):
    config = SearchConfig(store=str(home / "store"), where='caption contains "1"', k=2)
    first = workflow.list_rows(config)
    second = workflow.list_rows(replace(config, offset=2))
    rows = [*first.rows, *second.rows]
    assert [row["caption"] for row in rows] == ["image 1", "image 10", "image 11"]
    assert (first.num_matches, first.num_rows, first.has_more, second.has_more) == (3, 12, True, False)
    assert workflow.list_rows(replace(config, offset=100)).rows == ()
    assert "vector" not in rows[0]


def test_listing_rejects_what_only_a_search_can_do(home):
    store = str(home / "store")
    for options in ({"min_score": 0.1}, {"dedup": 0.9}):
        with pytest.raises(ConfigError, match="need something to search for"):
            SearchConfig(store=store, where="width > 1", **options)
    with pytest.raises(ConfigError, match="k must be from 1"):
        workflow.list_rows(SearchConfig(store=store, where="width > 1", k=0))
    with pytest.raises(ConfigError, match="nothing to search for"):
        workflow.run(SearchConfig(store=store, where="width > 1"))


def test_a_label_by_name_is_answered_with_the_column_of_class_names(home):
    store = str(home / "store")
    for value in ('"horse"', "horse"):
        with pytest.raises(ConfigError, match=r"'label' holds class numbers.*--columns class"):
            workflow.list_rows(SearchConfig(store=store, where=f"label = {value}"))


@pytest.mark.parametrize(
    ("row", "path", "below"),
    [
        ({"path": "/d/a/x.jpg", "location": "/d/a/x.jpg", "source": "/d"}, "/d/a/x.jpg", "a/x.jpg"),
        ({"path": "/d/a/x.jpg", "location": "/d/meta.csv:480", "source": "/d/meta.csv"}, "/d/a/x.jpg", "a/x.jpg"),
        ({"path": "/e/x.jpg", "location": "/d/meta.csv:480", "source": "/d/meta.csv"}, "/e/x.jpg", "x.jpg"),
        ({"path": "/d/t.csv", "location": "/d/t.csv:3", "source": "/d/t.csv"}, "/d/t.csv:3", "t.csv:3"),
        ({"path": "/d/0.tar", "location": "/d/0.tar/k", "source": "d"}, "/d/0.tar/k", "k"),
        ({"path": "s3://b/0.tar", "location": "s3://b/0.tar/k", "source": "s3://b"}, "s3://b/0.tar/k", "k"),
        ({"path": "images/1.jpg"}, "images/1.jpg", "1.jpg"),
    ],
)  # fmt: skip
def test_a_hit_is_shown_by_the_path_of_its_image(row, path, below):
    assert (image_path(row), path_in_dataset(row)) == (path, below)
