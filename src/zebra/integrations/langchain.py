"""LangChain embeddings of texts and images.

https://reference.langchain.com/python/langchain-core/embeddings (langchain-core 1.8)
"""

from pathlib import Path
from typing import Literal

from zebra.config.precision import InferencePrecision
from zebra.errors import MissingExtra
from zebra.images.inputs import ImageInput
from zebra.integrations.image_uris import resolve_image
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise MissingExtra("langchain-core", "zebra.integrations.langchain", "langchain") from error


class ZebraEmbeddings(Embeddings):
    """Unit vectors of texts and images in one space; vector stores take it as their embedding function."""

    def __init__(
        self,
        model: str | Path | Bundle,
        *,
        device: str = "auto",
        precision: InferencePrecision | Literal["auto"] = "fp32",
    ) -> None:
        """Load a model.

        Args:
            model: A name or path that `zebra.load` opens; or a loaded model, which keeps its device and precision.
            device: As in `zebra.load`.
            precision: As in `zebra.load`; "auto" is the fastest on this machine.
        """
        self.clip = model if isinstance(model, Bundle) else load(model, device=device, precision=precision)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector of `clip.embed_dim` numbers per text; texts above the model's context are truncated."""
        vectors: list[list[float]] = self.clip.encode_texts(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text that is searched for, the same as that of a document."""
        return self.embed_documents([text])[0]

    def embed_image(self, uris: list[ImageInput]) -> list[list[float]]:
        """Return a vector per image, for instance for `Chroma.add_images`.

        Args:
            uris: Paths, `file://` URIs, or images in any other form that `Bundle.encode_images` takes.

        Raises:
            BadSample: An image cannot be decoded or is a URL; the message names it.
            DataError: A file is missing.
        """
        images = (resolve_image(image, f"image {index}") for index, image in enumerate(uris))
        vectors: list[list[float]] = self.clip.encode_images(images).tolist()
        return vectors
