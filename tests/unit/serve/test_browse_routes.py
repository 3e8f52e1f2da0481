"""Rows are listed and counted by column over HTTP, without a query."""

import pytest

from .conftest import error_message


def list_rows(client, **request):
    response = client.post("/v1/rows", json=request)
    assert response.status_code == 200, response.text
    return response.json()


def test_rows_are_listed_newest_first_page_by_page(store_client):
    first, last = list_rows(store_client, k=8), list_rows(store_client, k=8, offset=8)
    names = [row["name"] for row in first["rows"] + last["rows"]]
    assert names == [f"{number:03d}.jpg" for number in reversed(range(12))]
    assert (first["num_matches"], first["num_rows"], first["more"], last["more"]) == (12, 12, True, False)
    assert [row["name"] for row in list_rows(store_client, order="oldest", k=1)["rows"]] == ["000.jpg"]


def test_rows_of_a_filter_or_with_given_ids_are_listed(store_client):
    wide = list_rows(store_client, where="width > 60")
    assert (wide["num_matches"], len(wide["rows"])) == (4, 4)
    ids = [row["id"] for row in wide["rows"]]
    assert [row["id"] for row in list_rows(store_client, ids=[*ids[::-1], "gone"])["rows"]] == ids[::-1]
    assert list_rows(store_client, where="  ")["num_matches"] == 12


def test_facets_are_counted_under_a_filter(store_client):
    response = store_client.post("/v1/facets", json={"selections": {"width": "width > 60"}})
    assert response.status_code == 200, response.text
    body = response.json()
    (width,) = (facet for facet in body["facets"] if facet["name"] == "width")
    assert width["values"] == [{"value": 40, "count": 8}, {"value": 80, "count": 4}]
    assert (body["num_matches"], body["num_rows"]) == (4, 12)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/rows", {"where": "widht > 3"}, 400),
        ("/v1/rows", {"k": 0}, 422),
        ("/v1/rows", {"order": "random"}, 422),
        ("/v1/facets", {"where": "(" * 5}, 400),
        ("/v1/facets", {"selections": {"width": "width >"}}, 400),
        ("/v1/facets", {"selections": {str(n): "width > 3" for n in range(65)}}, 422),
    ],
)
def test_an_invalid_request_is_refused(store_client, path, body, status):
    assert error_message(store_client.post(path, json=body), status)


def test_without_a_store_the_message_says_how_to_make_one(client):
    assert "zebra embed" in error_message(client.post("/v1/rows", json={}), 404)
