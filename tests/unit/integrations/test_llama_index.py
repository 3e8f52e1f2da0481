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


def test_a_multi_modal_index_finds_texts_and_images(embedding, image_paths, image_vectors, text_vectors):
    from llama_index.core.indices import MultiModalVectorStoreIndex
    from llama_index.core.schema import ImageNode, TextNode

    nodes = [
        *(ImageNode(image_path=path, metadata={"file_path": path}) for path in image_paths),
        *(TextNode(text=text) for text in TEXTS),
    ]
    index = MultiModalVectorStoreIndex(nodes, embed_model=embedding, image_embed_model=embedding)
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    (text,) = retriever.text_retrieve(TEXTS[1])
    assert text.node.text == TEXTS[1]
    (image,) = retriever.text_to_image_retrieve(TEXTS[0])
    assert image.node.image_path == image_paths[int(np.argmax(image_vectors @ text_vectors[0]))]
    (same,) = retriever.image_to_image_retrieve(image_paths[1])
    assert same.node.image_path == image_paths[1]


def test_a_component_is_restored_from_its_dictionary(embedding, text_vectors):
    restored = ZebraMultiModalEmbedding.from_dict(embedding.to_dict())
    assert (restored.model_name, restored.embed_batch_size) == (embedding.model_name, 2)
    np.testing.assert_allclose(restored.get_text_embedding(TEXTS[0]), text_vectors[0], atol=1e-6)


def test_a_bad_image_is_named(embedding, image_paths, broken_image):
    with pytest.raises(BadSample, match=r"broken\.jpg"):
        embedding.get_image_embedding_batch([image_paths[0], broken_image])
