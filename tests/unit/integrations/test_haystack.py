"""The Haystack components, in Haystack's own pipeline. Reference: haystack-ai 3.4."""

import os
from pathlib import Path

import numpy as np
import pytest

from zebra.errors import BadSample, ConfigError, DataError

from .conftest import TEXTS, import_adapter

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
adapter = import_adapter("haystack")
from haystack import Document, Pipeline  # noqa: E402
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever  # noqa: E402
from haystack.document_stores.in_memory import InMemoryDocumentStore  # noqa: E402


def test_each_embedder_gives_the_vectors_of_the_model(model, image_paths, image_vectors, text_vectors):
    query = adapter.ZebraTextEmbedder(str(model)).run(text=TEXTS[0])["embedding"]
    np.testing.assert_allclose(query, text_vectors[0], atol=1e-6)
    texts = [Document(content=text, meta={"file_path": image_paths[0]}) for text in TEXTS]
    embedded = adapter.ZebraDocumentEmbedder(str(model)).run(documents=texts)["documents"]
    np.testing.assert_array_equal(np.float32([document.embedding for document in embedded]), text_vectors)
    assert [document.content for document in embedded] == TEXTS
    images = [Document(content="caption", meta={"file_path": path, "year": 2020}) for path in image_paths]
    embedded = adapter.ZebraDocumentImageEmbedder(str(model)).run(documents=images)["documents"]
    np.testing.assert_array_equal(np.float32([document.embedding for document in embedded]), image_vectors)
    assert embedded[0].meta == images[0].meta | {
        "embedding_source": {"type": "image", "file_path_meta_field": "file_path"}
    }
    assert images[0].embedding is None


def test_fields_of_the_metadata_are_embedded_before_the_content(model, clip):
    document = Document(content="in the snow", meta={"animal": "two spotted dogs", "year": None})
    embedder = adapter.ZebraDocumentEmbedder(
        str(model), meta_fields_to_embed=["animal", "year", "missing"], embedding_separator=" "
    )
    (embedded,) = embedder.run(documents=[document])["documents"]
    np.testing.assert_allclose(embedded.embedding, clip.encode_texts([TEXTS[1]])[0], atol=1e-6)


def test_a_pipeline_finds_images_by_text_and_survives_serialization(
    model, clip, image_paths, image_vectors, monkeypatch
):
    monkeypatch.setenv("HAYSTACK_DESERIALIZATION_ALLOWLIST", adapter.__name__)
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    embedder = adapter.ZebraDocumentImageEmbedder(str(model), root_path=str(Path(image_paths[0]).parent))
    documents = [Document(meta={"file_path": Path(path).name}) for path in image_paths]
    store.write_documents(embedder.run(documents=documents)["documents"])
    pipeline = Pipeline()
    pipeline.add_component("embedder", adapter.ZebraTextEmbedder(str(model), precision="fp32"))
    restored = Pipeline.loads(pipeline.dumps())
    restored.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    restored.connect("embedder.embedding", "retriever.query_embedding")
    (hit,) = restored.run({"embedder": {"text": TEXTS[0]}})["retriever"]["documents"]
    best = int(np.argmax(image_vectors @ clip.encode_texts([TEXTS[0]])[0].numpy()))
    assert hit.meta["file_path"] == Path(image_paths[best]).name


def test_the_model_is_loaded_at_the_first_use(model, monkeypatch):
    monkeypatch.setattr(adapter, "load", lambda *_, **__: pytest.fail("loaded too early"))
    adapter.ZebraTextEmbedder(str(model))


@pytest.mark.parametrize("name", [None, "", 7, "missing.jpg"])
def test_a_document_without_an_image_is_named(model, name):
    embedder = adapter.ZebraDocumentImageEmbedder(str(model))
    with pytest.raises(DataError, match=r"file_path|missing\.jpg"):
        embedder.run(documents=[Document(meta={"file_path": name})])


def test_paths_out_of_the_root_are_refused(model, image_paths, tmp_path):
    (tmp_path / "link.png").symlink_to(image_paths[0])
    embedder = adapter.ZebraDocumentImageEmbedder(str(model), root_path=str(tmp_path))
    for path in (image_paths[0], "../secret.png", "link.png"):
        with pytest.raises(DataError, match="leads out of root_path"):
            embedder.run(documents=[Document(meta={"file_path": path})])


def test_a_broken_image_and_wrong_input_are_named(model, broken_image):
    with pytest.raises(BadSample, match=r"broken\.jpg"):
        adapter.ZebraDocumentImageEmbedder(str(model)).run(documents=[Document(meta={"file_path": broken_image})])
    with pytest.raises(ConfigError, match="ZebraTextEmbedder"):
        adapter.ZebraDocumentEmbedder(str(model)).run(documents="a text")
    with pytest.raises(ConfigError, match="ZebraDocumentImageEmbedder"):
        adapter.ZebraTextEmbedder(str(model)).run(text=[Document(content="x")])
