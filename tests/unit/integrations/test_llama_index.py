"""The LlamaIndex adapter, with LlamaIndex's own index. Reference: llama-index-core 0.14."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest

from zebra.errors import BadSample

from .conftest import TEXTS, import_adapter

ZebraMultiModalEmbedding = import_adapter("llama_index").ZebraMultiModalEmbedding


@pytest.fixture(scope="module")
def embedding(model):
    return ZebraMultiModalEmbedding(str(model), embed_batch_size=2)


def test_texts_and_images_have_the_vectors_of_the_model(embedding, image_paths, image_vectors, text_vectors):
    np.testing.assert_allclose(embedding.get_text_embedding_batch(TEXTS), text_vectors, atol=1e-6)
    np.testing.assert_allclose(embedding.get_query_embedding(TEXTS[0]), text_vectors[0], atol=1e-6)
    np.testing.assert_allclose(embedding.get_image_embedding_batch(image_paths), image_vectors, atol=1e-6)
    stream = io.BytesIO(Path(image_paths[2]).read_bytes())
    np.testing.assert_allclose(embedding.get_image_embedding(stream), image_vectors[2], atol=1e-6)


def test_asynchronous_calls_give_the_same_vectors(embedding, image_paths, image_vectors, text_vectors):
    async def embed():
        return await asyncio.gather(
            embedding.aget_text_embedding_batch(TEXTS),
            embedding.aget_image_embedding_batch(image_paths),
            embedding.aget_query_embedding(TEXTS[1]),
            embedding.aget_image_embedding(image_paths[0]),
        )

    texts, images, query, image = asyncio.run(embed())
    np.testing.assert_allclose(texts, text_vectors, atol=1e-6)
    np.testing.assert_allclose(images, image_vectors, atol=1e-6)
    np.testing.assert_allclose(query, text_vectors[1], atol=1e-6)
    np.testing.assert_allclose(image, image_vectors[0], atol=1e-6)


def test_an_index_finds_an_image_by_its_vector(embedding, image_paths, image_vectors):
    from llama_index.core.schema import ImageNode
    from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery

    nodes = [ImageNode(id_=path, image_path=path) for path in image_paths]
    for node, vector in zip(nodes, embedding.get_image_embedding_batch(image_paths), strict=True):
        node.embedding = vector
    store = SimpleVectorStore()
    store.add(nodes)
    query = VectorStoreQuery(query_embedding=embedding.get_image_embedding(image_paths[1]), similarity_top_k=1)
    assert store.query(query).ids == [image_paths[1]]


def test_a_component_is_restored_from_its_dictionary(embedding, text_vectors):
    restored = ZebraMultiModalEmbedding.from_dict(embedding.to_dict())
    assert (restored.model_name, restored.embed_batch_size) == (embedding.model_name, 2)
    np.testing.assert_allclose(restored.get_text_embedding(TEXTS[0]), text_vectors[0], atol=1e-6)


def test_a_bad_image_is_named(embedding, image_paths, broken_image):
    with pytest.raises(BadSample, match=r"broken\.jpg"):
        embedding.get_image_embedding_batch([image_paths[0], broken_image])
