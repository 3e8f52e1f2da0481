"""LlamaIndex embeddings of texts and images.

https://developers.llamaindex.ai/python/framework-api-reference/embeddings (llama-index-core 0.14)
"""

import asyncio
from typing import Any, Literal

from zebra.config.precision import InferencePrecision
from zebra.errors import MissingExtra
from zebra.images.inputs import ImageInput
from zebra.integrations.image_uris import resolve_image
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.embeddings import MultiModalEmbedding
except ImportError as error:
    raise MissingExtra("llama-index-core", "zebra.integrations.llama_index", "llama-index") from error


class ZebraMultiModalEmbedding(MultiModalEmbedding):
    """Unit vectors of texts and images in one space, as `embed_model` and `image_embed_model` of an index."""

    device: str = "auto"
    precision: InferencePrecision | Literal["auto"] = "fp32"
    _clip: Bundle = PrivateAttr()

    def __init__(self, model_name: str, **options: Any) -> None:
        """Load a model.

        Args:
            model_name: A name or path that `zebra.load` opens.
            options: device and precision as in `zebra.load`; others as in `MultiModalEmbedding`, such as
                embed_batch_size.
        """
        super().__init__(model_name=model_name, **options)
        self._clip = load(model_name, device=self.device, precision=self.precision)

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex serializes the component."""
        return "ZebraMultiModalEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._clip.encode_texts(texts).tolist()
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    def _get_image_embeddings(self, img_file_paths: list[ImageInput]) -> list[list[float]]:
        images = (resolve_image(image, f"image {index}") for index, image in enumerate(img_file_paths))
        vectors: list[list[float]] = self._clip.encode_images(images).tolist()
        return vectors

    def _get_image_embedding(self, img_file_path: ImageInput) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_image_embedding(self, img_file_path: ImageInput) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: list[ImageInput]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)
