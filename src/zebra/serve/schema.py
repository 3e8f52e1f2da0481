"""Schemas of HTTP requests and responses; an invalid request gets 422."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from zebra.serve.limits import (
    MAX_BODY_BYTES,
    MAX_HITS,
    MAX_INPUTS,
    MAX_LABELS,
    MAX_QUERY_TERMS,
    MAX_RESULT_WINDOW,
    MAX_TEMPLATES,
    MAX_TEXT_LENGTH,
)
from zebra.text.templates import DEFAULT_TEMPLATES

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH)]
Base64 = Annotated[str, Field(min_length=1, max_length=MAX_BODY_BYTES, description="an image file in base64")]
RowId = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH, description="id of a row in the store")]
Labels = Annotated[list[Text], Field(min_length=1, max_length=MAX_LABELS)]


class RequestModel(BaseModel):
    """Base class of requests: no type conversion, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RequestImage(RequestModel):
    """A JPEG, PNG, WebP or GIF (first frame), given as bytes, as a row of the store or as a URL."""

    data: Base64 | None = None
    id: RowId | None = None
    url: (
        Annotated[str, Field(max_length=MAX_TEXT_LENGTH, description="an https URL whose host the server allows")]
        | None
    ) = None

    @model_validator(mode="after")
    def _require_one_source(self) -> "RequestImage":
        if sum(value is not None for value in (self.data, self.id, self.url)) != 1:
            raise ValueError("an image needs exactly one of data, id and url")
        return self


RequestImages = Annotated[list[RequestImage], Field(min_length=1, max_length=MAX_INPUTS)]


class ClassifyRequest(RequestModel):
    """Images and candidate labels."""

    images: RequestImages
    labels: Labels
    templates: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEMPLATES)] = list(DEFAULT_TEMPLATES)


class ZeroShotParameters(RequestModel):
    """Parameters of a request in Hugging Face's format."""

    candidate_labels: Labels
    hypothesis_template: Text = DEFAULT_TEMPLATES[0]


class ZeroShotRequest(RequestModel):
    """A request in the format of Hugging Face's zero-shot-image-classification."""

    inputs: Base64 | Annotated[list[Base64], Field(min_length=1, max_length=MAX_INPUTS)]
    parameters: ZeroShotParameters


def _request_format(request: Any) -> str:
    is_hugging_face = isinstance(request, ZeroShotRequest) or (isinstance(request, dict) and "inputs" in request)
    return "hugging-face" if is_hugging_face else "zebra"


AnyClassifyRequest = Annotated[
    Annotated[ClassifyRequest, Tag("zebra")] | Annotated[ZeroShotRequest, Tag("hugging-face")],
    Discriminator(_request_format),
]


class EmbedRequest(RequestModel):
    """Images or texts."""

    images: RequestImages | None = None
    texts: Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)] | None = None

    @model_validator(mode="after")
    def _require_one_modality(self) -> "EmbedRequest":
        if (self.images is None) == (self.texts is None):
            raise ValueError("send either images or texts")
        return self


class EmbeddingsRequest(RequestModel):
    """A request in the format of OpenAI's embeddings API; other fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    model: Annotated[str, Field(max_length=MAX_TEXT_LENGTH)] = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class SearchRequest(RequestModel):
    """A query: the sum of the wanted terms minus the excluded ones, with filters and paging."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    text: Text | None = None
    image: RequestImage | None = None
    without: Annotated[list[Text], Field(max_length=MAX_QUERY_TERMS, alias="not")] = []
    like: Annotated[list[RowId], Field(max_length=MAX_QUERY_TERMS)] = []
    unlike: Annotated[list[RowId], Field(max_length=MAX_QUERY_TERMS)] = []
    where: (
        Annotated[str, Field(max_length=MAX_TEXT_LENGTH, description="a filter: width >= 640 and year = 2021")] | None
    ) = None
    k: Annotated[int, Field(ge=1, le=MAX_HITS)] = 20
    offset: Annotated[int, Field(ge=0, le=MAX_RESULT_WINDOW - MAX_HITS)] = 0
    min_score: Annotated[float, Field(ge=-1, le=1, strict=False)] | None = None
    dedup: (
        Annotated[float, Field(ge=-1, le=1, strict=False, description="group hits whose cosine is at least this")]
        | None
    ) = None

    @model_validator(mode="after")
    def _require_query(self) -> "SearchRequest":
        if not (self.text or "").strip() and self.image is None and not (self.without or self.like or self.unlike):
            raise ValueError("the query is empty: give text, image, not, like or unlike")
        return self


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


class ColumnInfo(BaseModel):
    """A column that can be used in a filter."""

    name: str
    type: str


class StoreInfo(BaseModel):
    """The store that is searched."""

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


class ServerInfo(BaseModel):
    """Model, store, limits and optional features of this server."""

    version: str
    model: ServedModelInfo
    store: StoreInfo | None
    limits: RequestLimits
    quiz: list[str]
    map: bool
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


class RowResponse(BaseModel):
    """A row of the store, with the URLs of its image and thumbnail."""

    id: str
    name: str
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
    seconds: float
    warnings: list[str]


class HealthResponse(BaseModel):
    """Liveness or readiness of the server."""

    status: str
