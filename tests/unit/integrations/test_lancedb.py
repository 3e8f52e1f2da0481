"""The embedding function "zebra" in LanceDB's registry. Reference: lancedb 0.40."""

from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
from PIL import Image

from zebra.errors import BadSample, DataError, WeightsError
from zebra.integrations.lancedb import ZebraEmbeddingFunction

from .conftest import TEXTS


@pytest.fixture
def function(model):
    return get_registry().get("zebra").create(name=str(model))


def test_rows_are_embedded_when_added_and_queries_when_searched(
    function, tmp_path, image_paths, image_vectors, text_vectors
):
    class Photo(LanceModel):
        path: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    table = lancedb.connect(tmp_path).create_table("photos", schema=Photo)
    table.add([{"path": path} for path in image_paths])
    np.testing.assert_allclose(np.stack(table.to_arrow()["vector"].to_numpy()), image_vectors, atol=1e-6)
    # In another process the table finds the function by its name in the registry.
    again = lancedb.connect(tmp_path).open_table("photos")
    for text, vector in zip(TEXTS, text_vectors, strict=True):
        order = np.argsort(-(image_vectors @ vector))
        assert [hit["path"] for hit in again.search(text).limit(3).to_list()] == [image_paths[i] for i in order]
    assert again.search(Image.open(image_paths[1])).limit(1).to_list()[0]["path"] == image_paths[1]


def test_images_in_a_binary_column_are_embedded(function, tmp_path, image_paths, image_vectors):
    class Photo(LanceModel):
        image: bytes = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    table = lancedb.connect(tmp_path).create_table("photos", schema=Photo)
    table.add([{"image": Path(path).read_bytes()} for path in image_paths])
    np.testing.assert_allclose(np.stack(table.to_arrow()["vector"].to_numpy()), image_vectors, atol=1e-6)


def test_a_missing_value_gets_no_vector_whatever_the_column(function, image_paths, image_vectors):
    values = [None, image_paths[0], None]
    for column in (values, pa.array(values), pa.chunked_array([values])):
        vectors = function.compute_source_embeddings(column)
        assert vectors[0] is vectors[2] is None
        np.testing.assert_allclose(vectors[1], image_vectors[0], atol=1e-6)
    assert function.compute_source_embeddings([]) == []
    assert len(function.compute_source_embeddings(image_paths[0])) == 1


def test_errors_come_at_once_and_keep_their_type(function, image_paths, broken_image, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("retried"))
    with pytest.raises(BadSample, match=r"broken\.jpg"):
        function.compute_source_embeddings_with_retry([image_paths[0], broken_image])
    with pytest.raises(DataError, match="no image file at"):
        function.compute_query_embeddings_with_retry(Path("missing.jpg"))
    with pytest.raises(BadSample, match="image 1: image is a URL"):
        function.compute_source_embeddings_with_retry([image_paths[0], "https://example.org/cat.jpg"])


def test_the_model_is_loaded_at_the_first_use(tmp_path):
    function = ZebraEmbeddingFunction.create(name=str(tmp_path / "nothing"))
    with pytest.raises(WeightsError, match="no model folder at"):
        function.ndims()
