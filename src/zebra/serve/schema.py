"""What requests may say and answers hold; a request that does not fit is refused with 422."""

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
Base64 = Annotated[str, Field(min_length=1, max_length=MAX_BODY_BYTES, description="a file, base64")]
RowId = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH, description="of a row in the store")]
Labels = Annotated[list[Text], Field(min_length=1, max_length=MAX_LABELS)]


class RequestModel(BaseModel):
    """A request: nothing in it is converted, and nothing unknown passes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RequestImage(RequestModel):
    """A JPEG, PNG, WebP or GIF (first frame): its bytes, its row in the store, or its address."""

    data: Base64 | None = None
    id: RowId | None = None
    url: (
        Annotated[str, Field(max_length=MAX_TEXT_LENGTH, description="https, if the server allows its host")]
        | None
    ) = None

    @model_validator(mode="after")
    def _require_one_source(self) -> "RequestImage":
        if sum(value is not None for value in (self.data, self.id, self.url)) != 1:
            raise ValueError("a picture is one of data, id and url")
        return self


RequestImages = Annotated[list[RequestImage], Field(min_length=1, max_length=MAX_INPUTS)]


class ClassifyRequest(RequestModel):
    """Pictures, and the labels that they may have."""

    images: RequestImages
    labels: Labels
    templates: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEMPLATES)] = list(DEFAULT_TEMPLATES)


class ZeroShotParameters(RequestModel):
    """What belongs to Hugging Face's request beside its pictures."""

    candidate_labels: Labels
    hypothesis_template: Text = DEFAULT_TEMPLATES[0]


class ZeroShotRequest(RequestModel):
    """The shape of Hugging Face's zero-shot-image-classification."""

    inputs: Base64 | Annotated[list[Base64], Field(min_length=1, max_length=MAX_INPUTS)]
    parameters: ZeroShotParameters


def _request_format(request: Any) -> str:
    foreign = isinstance(request, ZeroShotRequest) or (isinstance(request, dict) and "inputs" in request)
    return "hugging-face" if foreign else "zebra"


AnyClassifyRequest = Annotated[
    Annotated[ClassifyRequest, Tag("zebra")] | Annotated[ZeroShotRequest, Tag("hugging-face")],
    Discriminator(_request_format),
]


class EmbedRequest(RequestModel):
    """Pictures or texts."""

    images: RequestImages | None = None
    texts: Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)] | None = None

    @model_validator(mode="after")
    def _require_one_modality(self) -> "EmbedRequest":
        if (self.images is None) == (self.texts is None):
            raise ValueError("send images or texts")
        return self


class EmbeddingsRequest(RequestModel):
    """The shape of OpenAI's client."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    model: Annotated[str, Field(max_length=MAX_TEXT_LENGTH)] = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class SearchRequest(RequestModel):
    """What to look for: the sum of what is named, less what is not wanted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    text: Text | None = None
    image: RequestImage | None = None
    without: Annotated[list[Text], Field(max_length=MAX_QUERY_TERMS, alias="not")] = []
    like: Annotated[list[RowId], Field(max_length=MAX_QUERY_TERMS)] = []
    unlike: Annotated[list[RowId], Field(max_length=MAX_QUERY_TERMS)] = []
    where: (
        Annotated[
            str, Field(max_length=MAX_TEXT_LENGTH, description="a filter: width >= 640 and year = 2021")
        ]
        | None
    ) = None
    k: Annotated[int, Field(ge=1, le=MAX_HITS)] = 20
    offset: Annotated[int, Field(ge=0, le=MAX_RESULT_WINDOW - MAX_HITS)] = 0
    min_score: Annotated[float, Field(ge=-1, le=1, strict=False)] | None = None
    dedup: (
        Annotated[
            float, Field(ge=-1, le=1, strict=False, description="cosine of near duplicates, told as one")
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _require_query(self) -> "SearchRequest":
        if (
            not (self.text or "").strip()
            and self.image is None
            and not (self.without or self.like or self.unlike)
        ):
            raise ValueError("say what to look for: text, image, not, like or unlike")
        return self


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str
    message: str


class ErrorResponse(BaseModel):
    """The shape of every error."""

    error: ErrorDetail


class ServedModelInfo(BaseModel):
    """About the model."""

    name: str
    fingerprint: str
    embed_dim: int
    image_size: int
    context_length: int
    precision: str


class ColumnInfo(BaseModel):
    """That can be filtered by."""

    name: str
    type: str


class StoreInfo(BaseModel):
    """About the store."""

    rows: int
    columns: list[ColumnInfo]
    captions: bool


class RequestLimits(BaseModel):
    """How much one request may ask for."""

    labels: int
    text_length: int
    k: int
    batch: int
    body_bytes: int
    pixels: int


class ServerInfo(BaseModel):
    """What this service is."""

    version: str
    model: ServedModelInfo
    store: StoreInfo | None
    limits: RequestLimits
    quiz: list[str]
    map: bool
    urls: bool
    examples: list[str]


class LabelScore(BaseModel):
    """How well a label fits."""

    label: str
    score: float


class ClassifyResult(BaseModel):
    """The labels of one picture, best first."""

    scores: list[LabelScore]


class ClassifyResponse(BaseModel):
    """For each picture its labels."""

    results: list[ClassifyResult]
    warnings: list[str]


class EmbedResponse(BaseModel):
    """Unit vectors, and the model they are of."""

    vectors: list[list[float]]
    fingerprint: str
    warnings: list[str]


class Embedding(BaseModel):
    """One vector of OpenAI's shape."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class RowResponse(BaseModel):
    """A row of the store, and where its picture is."""

    id: str
    name: str
    caption: str | None
    width: int | None
    height: int | None
    columns: dict[str, Any]
    image: str
    thumbnail: str


class HitResponse(RowResponse):
    """A row that was found."""

    score: float
    duplicates: int


class SearchResponse(BaseModel):
    """What was found, best first."""

    hits: list[HitResponse]
    more: bool
    method: Literal["exact", "approximate"]
    recall: float | None
    searched: int
    seconds: float
    warnings: list[str]


class HealthResponse(BaseModel):
    """Whether it is well, or ready."""

    status: str
