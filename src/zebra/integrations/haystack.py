"""Haystack components for queries, documents and the images of documents.

https://docs.haystack.deepset.ai/docs/embedders (haystack-ai 3.4). As other embedders do, each loads its model in
`warm_up`, which a pipeline calls before its first run.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError, DataError, MissingExtra
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load

try:
    from haystack import Document, component
except ImportError as error:
    raise MissingExtra("haystack-ai", "zebra.integrations.haystack", "haystack") from error


class _LazyModel:
    """A model that is loaded at its first use."""

    def __init__(self, model: str, device: str, precision: InferencePrecision | Literal["auto"]) -> None:
        self._load = partial(load, model, device=device, precision=precision)

    @cached_property
    def clip(self) -> Bundle:
        """The model."""
        return self._load()


@component
class ZebraTextEmbedder:
    """Embeds a query."""

    def __init__(
        self, model: str, device: str = "auto", precision: InferencePrecision | Literal["auto"] = "fp32"
    ) -> None:
        """Set the model, the device and the precision, as in `zebra.load`."""
        self.model = model
        self.device = device
        self.precision = precision
        self._lazy = _LazyModel(model, device, precision)

    def warm_up(self) -> None:
        """Load the model."""
        _ = self._lazy.clip

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Return `{"embedding": unit vector of the text}`; ConfigError if `text` is no text."""
        if not isinstance(text, str):
            raise ConfigError(
                f"ZebraTextEmbedder takes one text, not {type(text).__name__}. For documents take "
                "ZebraDocumentEmbedder, or ZebraDocumentImageEmbedder for their images."
            )
        return {"embedding": self._lazy.clip.encode_texts([text])[0].tolist()}


@component
class ZebraDocumentEmbedder:
    """Embeds the texts of documents."""

    def __init__(
        self,
        model: str,
        device: str = "auto",
        precision: InferencePrecision | Literal["auto"] = "fp32",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        """Set the model, the device and the precision, as in `zebra.load`.

        Args:
            meta_fields_to_embed: Fields of the metadata that stand before the content in the embedded text.
            embedding_separator: Joins these fields and the content.
        """
        self.model = model
        self.device = device
        self.precision = precision
        self._lazy = _LazyModel(model, device, precision)
        self.meta_fields_to_embed = meta_fields_to_embed
        self.embedding_separator = embedding_separator

    def warm_up(self) -> None:
        """Load the model."""
        _ = self._lazy.clip

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return `{"documents": the documents with unit vectors}`; ConfigError if one is no document."""
        require_documents(documents, "ZebraDocumentEmbedder")
        vectors = self._lazy.clip.encode_texts([self._text(document) for document in documents])
        pairs = zip(documents, vectors.tolist(), strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}

    def _text(self, document: Document) -> str:
        fields = [document.meta.get(name) for name in self.meta_fields_to_embed or ()]
        return self.embedding_separator.join([*(str(v) for v in fields if v is not None), document.content or ""])


@component
class ZebraDocumentImageEmbedder:
    """Embeds the image that the metadata of each document names."""

    def __init__(
        self,
        model: str,
        device: str = "auto",
        precision: InferencePrecision | Literal["auto"] = "fp32",
        file_path_meta_field: str = "file_path",
        root_path: str | None = None,
    ) -> None:
        """Set the model, the device and the precision, as in `zebra.load`.

        Args:
            file_path_meta_field: Field of the metadata with the path of the image.
            root_path: Folder of the images; paths that lead out of it are refused. Set it if others write the metadata.
        """
        self.model = model
        self.device = device
        self.precision = precision
        self._lazy = _LazyModel(model, device, precision)
        self.file_path_meta_field = file_path_meta_field
        self.root_path = root_path

    def warm_up(self) -> None:
        """Load the model."""
        _ = self._lazy.clip

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Return `{"documents": the documents with unit vectors of their images}`.

        Raises:
            ConfigError: An item is no document.
            DataError: A document names no image, one outside `root_path` or one that is missing.
            BadSample: An image cannot be decoded; the message names it.
        """
        require_documents(documents, "ZebraDocumentImageEmbedder")
        vectors = self._lazy.clip.encode_images([self._find_image(document) for document in documents])
        source = {"type": "image", "file_path_meta_field": self.file_path_meta_field}
        return {
            "documents": [
                replace(document, embedding=vector, meta={**document.meta, "embedding_source": source})
                for document, vector in zip(documents, vectors.tolist(), strict=True)
            ]
        }

    def _find_image(self, document: Document) -> Path:
        name = document.meta.get(self.file_path_meta_field)
        if not isinstance(name, str | Path) or not str(name):
            raise DataError(
                f"document {document.id} has no path of an image in meta[{self.file_path_meta_field!r}]. Set it, or "
                "name another field by file_path_meta_field=."
            )
        path = Path(self.root_path or "", name)
        if self.root_path is not None and not path.resolve().is_relative_to(Path(self.root_path).resolve()):
            raise DataError(f"document {document.id}: {name} leads out of root_path {self.root_path}.")
        return path


def require_documents(documents: Sequence[Document], embedder: str) -> None:
    """Raise ConfigError unless all items are documents."""
    if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
        raise ConfigError(f"{embedder} takes a list of documents. For a query take ZebraTextEmbedder.")
