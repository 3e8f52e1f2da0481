"""Shorter vectors over HTTP: sizes of embeddings, a store searched by short vectors, a store of short vectors."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from zebra.config.embed import EmbedConfig
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.search.searcher import open_searcher
from zebra.workflows import embed

from ...tiny_model import build_tiny_model
from .conftest import error_message


@pytest.fixture(scope="module")
def short_model(tmp_path_factory):
    clip = build_tiny_model()
    clip.model.config = replace(clip.model.config, dimensions=(8, 16))
    folder = tmp_path_factory.mktemp("models") / "short"
    Bundle(clip.model, clip.tokenizer, clip.preprocess).save(folder)
    return folder


@pytest.fixture(scope="module", params=[None, 8])
def short_store(request, short_model, photos, tmp_path_factory):
    """Return a store of full vectors, and one of short vectors."""
    out = tmp_path_factory.mktemp("stores") / f"store-{request.param}"
    config = {"model": str(short_model), "data": str(photos), "precision": "fp32", "workers": 1}
    embed.run(EmbedConfig(**config, out=str(out), vector_dtype="float32", dimensions=request.param))
    return out


def test_embeddings_have_a_requested_size_that_the_model_was_trained_for(serving, short_model):
    with serving(model=str(short_model)) as client:
        request = {"input": ["a horse", "a cat"]}
        full, short = (
            torch.tensor([row["embedding"] for row in client.post("/v1/embeddings", json=body).json()["data"]])
            for body in (request, request | {"dimensions": 8})
        )
        torch.testing.assert_close(short, F.normalize(full[:, :8], dim=1))
        refused = client.post("/v1/embeddings", json=request | {"dimensions": 9})
        assert "8, 16, 32 dimensions" in error_message(refused, 400)


def test_text_and_rows_are_searched_by_short_vectors_whatever_the_store_holds(serving, short_model, short_store):
    with serving(model=str(short_model), store=str(short_store), dimensions=8) as client:
        hits = client.post("/v1/search", json={"text": "a horse", "k": 12}).json()["hits"]
        expected = open_searcher(short_store).shorten(8, (8,))
        full_query_E = load(short_model).encode_texts(["a horse"])[0]
        assert [hit["id"] for hit in hits] == [hit.id for hit in expected.search(full_query_E, k=12).hits]
        both = client.post("/v1/search", json={"text": "a horse", "like": [hits[0]["id"]], "k": 12})
        assert len(both.json()["hits"]) == 11
