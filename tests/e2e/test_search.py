"""`zebra search` as a user runs it: by text, image, filter and id."""

import json

import pytest

from ..tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def home(zebra, pairs, tmp_path_factory):
    """Return a folder with a model, images with captions, and their store."""
    home = tmp_path_factory.mktemp("home")
    save_tiny_model(home / "model")
    (home / "photos").mkdir()
    for key, suffix, data, caption in pairs:
        (home / "photos" / f"{key}.{suffix}").write_bytes(data)
        (home / "photos" / f"{key}.txt").write_text(caption)
    zebra("embed", "model", "photos", "--out", "store", "--precision", "fp32", cwd=home)
    return home


def test_a_text_query_with_a_filter_and_a_limit(zebra, home):
    result = zebra("search", "store", "a red circle", "-k", 3, "--where", 'caption contains "RED"', cwd=home)
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all("photos/" in line and "a red" in line for line in lines)
    assert result.stderr.startswith("3 of 96 images, exact, ")
    assert "next page: --offset 3" in result.stderr


def test_one_json_document_with_the_columns_of_every_hit(cli, home):
    arguments = [
        "search",
        "store",
        "photos/0004.jpg",
        "--json",
        "--not",
        "blue",
        "--dedup",
        "0.999",
        "--min-score",
        "0.1",
    ]
    document = json.loads(cli(*arguments, cwd=home).out)
    assert document["method"] == "exact"
    assert document["searched"] == 96
    first = document["hits"][0]
    assert first["score"] == max(hit["score"] for hit in document["hits"])
    assert {"id", "duplicates", "path", "caption", "width"} <= set(first)
    like = json.loads(cli("search", "store", "--like", first["id"], "-k", 96, "--json", cwd=home).out)
    assert first["id"] not in {hit["id"] for hit in like["hits"]}
    assert (len(like["hits"]), like["more"]) == (95, False)


def test_a_file_of_queries_gives_one_json_document_per_line(cli, home):
    (home / "queries.txt").write_text("a red circle\na blue square\n")
    output = cli("search", "store", "--queries", "queries.txt", "-k", 2, "--json", cwd=home)
    assert [json.loads(line)["query"] for line in output.out.splitlines()] == ["a red circle", "a blue square"]
    assert cli("search", "store", "--queries", "queries.txt", "-k", 2, cwd=home).out.startswith("a red circle\n")


def test_the_page_of_hits_contains_their_images(cli, home):
    cli("search", "store", "a red circle", "-k", 4, "--page", "hits.html", cwd=home)
    assert (home / "hits.html").read_text().count("data:image/png") == 4


def test_an_error_is_one_message(cli, home):
    message = cli("search", "store", "x", "--where", "capton is null", cwd=home, code=1).err
    assert message.startswith("zebra search: invalid filter: there is no column 'capton'. Did you mean 'caption'?")
    assert "\n  ^^^^^^\n" in message
    assert "has no index" in cli("search", "store", "x", "--method", "approximate", cwd=home, code=1).err
    assert "below 1,000 an index" in cli("search", "store", "--index", cwd=home, code=1).err
    assert "the model's context of" in cli("search", "store", "red " * 50, cwd=home).err
    cli("search", "store", cwd=home, code=2)
