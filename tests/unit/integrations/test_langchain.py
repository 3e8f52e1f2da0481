"""The LangChain adapter, with LangChain's own vector store. Reference: langchain-core 1.8."""

import asyncio

import numpy as np
import pytest

from zebra.errors import BadSample, DataError

from .conftest import TEXTS, import_adapter

ZebraEmbeddings = import_adapter("langchain").ZebraEmbeddings


@pytest.fixture(scope="module")
def embeddings(model):
    return ZebraEmbeddings(model)


def test_texts_and_images_have_the_vectors_of_the_model(embeddings, image_paths, image_vectors, text_vectors):
    np.testing.assert_array_equal(np.float32(embeddings.embed_documents(TEXTS)), text_vectors)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[1]), text_vectors[1], atol=1e-6)
    np.testing.assert_array_equal(np.float32(embeddings.embed_image(image_paths)), image_vectors)
    assert type(embeddings.embed_query(TEXTS[0])[0]) is float


def test_a_loaded_model_is_taken_as_it_is(clip):
    assert ZebraEmbeddings(clip).clip is clip


def test_asynchronous_calls_give_the_same_vectors(embeddings, text_vectors):
    vectors = asyncio.run(embeddings.aembed_documents(TEXTS))
    np.testing.assert_array_equal(np.float32(vectors), text_vectors)


def test_a_vector_store_finds_a_text(embeddings):
    from langchain_core.vectorstores import InMemoryVectorStore

    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    assert store.similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]


def test_nothing_to_embed_gives_no_vectors(embeddings):
    assert embeddings.embed_documents([]) == embeddings.embed_image([]) == []


def test_a_bad_image_is_named(embeddings, image_paths, broken_image):
    with pytest.raises(BadSample, match=r"broken\.jpg"):
        embeddings.embed_image([image_paths[0], broken_image])
    with pytest.raises(BadSample, match="image 1: image is a URL"):
        embeddings.embed_image([image_paths[0], "https://example.org/cat.jpg"])
    with pytest.raises(DataError, match="no image file at"):
        embeddings.embed_image(["missing.jpg"])
