"""JSON requests that do not take FastAPI's way get the responses that FastAPI gives."""

import pytest

FAST, SLOW = "application/json", "application/json;charset=utf-8"
"""Two spellings of a type: the second one leaves the request to FastAPI."""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embed", '{"texts": ["a horse", "é\\u00e9", "horse horse horse horse horse horse horse horse"]}'),
        ("/v1/embed", '{"inputs": "a horse"}'),
        ("/v1/embed", '{"inputs": ["a horse", "a cow"]}'),
        ("/v1/embeddings", '{"input": "a horse"}'),
        ("/v1/embeddings", '{"input": ["a horse", "a cow"], "encoding_format": "base64", "user": "x"}'),
        ("/v1/embed", '{"texts": []}'),
        ("/v1/embed", '{"texts": ["a"], "images": [], "color": 1}'),
        ("/v1/embed", '{"texts": ["a"]} {}'),
        ("/v1/embed", "[" * 50_000),
        ("/v1/embed", "NaN"),
        ("/v1/embed", '{"texts": ["\\ud800"]}'),
        ("/v1/embed", ""),
        ("/v1/embeddings", '{"input": [1, 2]}'),
        ("/v1/embeddings", '{"input": "a horse", "model": "another"}'),
        ("/v1/search", '{"text": "a horse"}'),
        ("/v1/classify", '{"images": [{"data": "AA"}], "labels": ["a"]}'),
    ],
)
def test_a_request_gets_the_response_of_fastapi(client, path, body):
    fast, slow = (client.post(path, content=body.encode(), headers={"Content-Type": type}) for type in (FAST, SLOW))
    assert (fast.status_code, fast.content) == (slow.status_code, slow.content)
    assert dict(fast.headers) == dict(slow.headers)
