"""Schemas of HTTP responses."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """Type and message of an error."""

    type: str
    message: str


class ErrorResponse(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


class ServedModelInfo(BaseModel):
    """The model that is served."""

    name: str
    fingerprint: str
    embed_dim: int
    image_size: int
    context_length: int
    precision: str
    templates: list[str]
    """Prompt templates of requests that give none."""
    saved_at: datetime | None
    """When the weights were written; None unless the model is a folder on this machine."""


class ColumnInfo(BaseModel):
    """A column that can be used in a filter."""

    name: str
    type: str


class StoreInfo(BaseModel):
    """The store that is searched."""

    name: str
    """Name of its directory."""
    rows: int
    columns: list[ColumnInfo]
    captions: bool


class RequestLimits(BaseModel):
    """Limits on one request."""

    labels: int
    text_length: int
    k: int
    batch: int
    body_bytes: int
    pixels: int
    download: int


class ServerInfo(BaseModel):
    """Model, store, limits and optional features of this server."""

    version: str
    model: ServedModelInfo
    store: StoreInfo | None
    limits: RequestLimits
    quiz: list[str]
    map: bool
    add: bool
    """Whether images can be added."""
    urls: bool
    examples: list[str]


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class ClassifyResult(BaseModel):
    """The labels of one image, best first."""

    scores: list[LabelScore]


class ClassifyResponse(BaseModel):
    """One result for each image."""

    results: list[ClassifyResult]
    warnings: list[str]


class EmbedResponse(BaseModel):
    """Unit vectors and the fingerprint of their model."""

    vectors: list[list[float]]
    fingerprint: str
    warnings: list[str]


class Embedding(BaseModel):
    """One vector in OpenAI's format."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Numbers of tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """A response in the format of OpenAI's embeddings API."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(BaseModel):
    """A model in OpenAI's format."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When the server was started, in seconds since 1970."""
    owned_by: str = "zebra"


class ModelList(BaseModel):
    """The models of a server in OpenAI's format."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class ImmichResponse(BaseModel):
    """A response as Immich's machine learning sends it: a vector as JSON text, and the size of the image."""

    clip: str
    imageHeight: int | None = None
    imageWidth: int | None = None


class WeaviateVectors(BaseModel):
    """A response as Weaviate's CLIP inference sends it."""

    textVectors: list[list[float]]
    imageVectors: list[list[float]]


class WeaviateError(BaseModel):
    """An error as Weaviate reads it."""

    error: str


class RowResponse(BaseModel):
    """A row of the store, with the URLs of its image and thumbnail."""

    id: str
    name: str
    path: str
    caption: str | None
    width: int | None
    height: int | None
    columns: dict[str, Any]
    image: str
    thumbnail: str


class HitResponse(RowResponse):
    """A search result."""

    score: float
    num_duplicates: int


class SearchResponse(BaseModel):
    """Search results, best first."""

    hits: list[HitResponse]
    more: bool
    method: Literal["exact", "approximate"]
    recall: float | None
    searched: int
    """Number of rows in the store."""
    num_matches: int | None
    """Number of rows that match the filter; None for an approximate search with a filter."""
    seconds: float
    warnings: list[str]


class HealthResponse(BaseModel):
    """Liveness or readiness of the server."""

    status: str
