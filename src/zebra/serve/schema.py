"""What requests may say and answers hold; a request that does not fit is refused with 422."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from zebra.serve.limits import BATCH, BODY_BYTES, DEPTH, HITS, LABELS, TEMPLATES, TERMS, TEXT_LENGTH
from zebra.text.templates import DEFAULT_TEMPLATES

Text = Annotated[str, Field(min_length=1, max_length=TEXT_LENGTH)]
Base64 = Annotated[str, Field(min_length=1, max_length=BODY_BYTES, description="a file, base64")]
RowId = Annotated[str, Field(min_length=1, max_length=TEXT_LENGTH, description="of a row in the store")]
Labels = Annotated[list[Text], Field(min_length=1, max_length=LABELS)]


class Asked(BaseModel):
    """A request: nothing in it is converted, and nothing unknown passes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Picture(Asked):
    """A JPEG, PNG, WebP or GIF (first frame): its bytes, its row in the store, or its address."""

    data: Base64 | None = None
    id: RowId | None = None
    url: (
        Annotated[str, Field(max_length=TEXT_LENGTH, description="https, if the server allows its host")]
        | None
    ) = None

    @model_validator(mode="after")
    def _one(self) -> "Picture":
        if sum(value is not None for value in (self.data, self.id, self.url)) != 1:
            raise ValueError("a picture is one of data, id and url")
        return self


Pictures = Annotated[list[Picture], Field(min_length=1, max_length=BATCH)]


class ClassifyRequest(Asked):
    """Pictures, and the labels that they may have."""

    images: Pictures
    labels: Labels
    templates: Annotated[list[Text], Field(min_length=1, max_length=TEMPLATES)] = list(DEFAULT_TEMPLATES)


class ZeroShotParameters(Asked):
    """What belongs to Hugging Face's request beside its pictures."""

    candidate_labels: Labels
    hypothesis_template: Text = DEFAULT_TEMPLATES[0]


class ZeroShotRequest(Asked):
    """The shape of Hugging Face's zero-shot-image-classification."""

    inputs: Base64 | Annotated[list[Base64], Field(min_length=1, max_length=BATCH)]
    parameters: ZeroShotParameters


def _shape(request: Any) -> str:
    foreign = isinstance(request, ZeroShotRequest) or (isinstance(request, dict) and "inputs" in request)
    return "hugging-face" if foreign else "zebra"


AnyClassifyRequest = Annotated[
    Annotated[ClassifyRequest, Tag("zebra")] | Annotated[ZeroShotRequest, Tag("hugging-face")],
    Discriminator(_shape),
]


class EmbedRequest(Asked):
    """Pictures or texts."""

    images: Pictures | None = None
    texts: Annotated[list[Text], Field(min_length=1, max_length=BATCH)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "EmbedRequest":
        if (self.images is None) == (self.texts is None):
            raise ValueError("send images or texts")
        return self


class EmbeddingsRequest(Asked):
    """The shape of OpenAI's client."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=BATCH)]
    model: Annotated[str, Field(max_length=TEXT_LENGTH)] = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class SearchRequest(Asked):
    """What to look for: the sum of what is named, less what is not wanted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    text: Text | None = None
    image: Picture | None = None
    without: Annotated[list[Text], Field(max_length=TERMS, alias="not")] = []
    like: Annotated[list[RowId], Field(max_length=TERMS)] = []
    unlike: Annotated[list[RowId], Field(max_length=TERMS)] = []
    where: (
        Annotated[str, Field(max_length=TEXT_LENGTH, description="a filter: width >= 640 and year = 2021")]
        | None
    ) = None
    k: Annotated[int, Field(ge=1, le=HITS)] = 20
    offset: Annotated[int, Field(ge=0, le=DEPTH - HITS)] = 0
    min_score: Annotated[float, Field(ge=-1, le=1, strict=False)] | None = None
    fold: (
        Annotated[
            float, Field(ge=-1, le=1, strict=False, description="cosine of near duplicates, told as one")
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _something(self) -> "SearchRequest":
        if (
            not (self.text or "").strip()
            and self.image is None
            and not (self.without or self.like or self.unlike)
        ):
            raise ValueError("say what to look for: text, image, not, like or unlike")
        return self


class Fault(BaseModel):
    """What went wrong."""

    type: str
    message: str


class Problem(BaseModel):
    """The shape of every error."""

    error: Fault


class ModelFacts(BaseModel):
    """About the model."""

    name: str
    fingerprint: str
    embed_dim: int
    image_size: int
    context_length: int
    precision: str


class Column(BaseModel):
    """That can be filtered by."""

    name: str
    type: str


class StoreInfo(BaseModel):
    """About the store."""

    rows: int
    columns: list[Column]
    captions: bool


class Limits(BaseModel):
    """How much one request may ask for."""

    labels: int
    text_length: int
    k: int
    batch: int
    body_bytes: int
    pixels: int


class About(BaseModel):
    """What this service is."""

    version: str
    model: ModelFacts
    store: StoreInfo | None
    limits: Limits
    quiz: list[str]
    map: bool
    urls: bool
    examples: list[str]


class LabelScore(BaseModel):
    """How well a label fits."""

    label: str
    score: float


class Ranked(BaseModel):
    """The labels of one picture, best first."""

    scores: list[LabelScore]


class ClassifyAnswer(BaseModel):
    """For each picture its labels."""

    results: list[Ranked]
    warnings: list[str]


class EmbedAnswer(BaseModel):
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


class EmbeddingsAnswer(BaseModel):
    """OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class RowAnswer(BaseModel):
    """A row of the store, and where its picture is."""

    id: str
    name: str
    caption: str | None
    width: int | None
    height: int | None
    columns: dict[str, Any]
    image: str
    thumbnail: str


class HitAnswer(RowAnswer):
    """A row that was found."""

    score: float
    folded: int


class SearchAnswer(BaseModel):
    """What was found, best first."""

    hits: list[HitAnswer]
    more: bool
    method: Literal["exact", "approximate"]
    recall: float | None
    searched: int
    seconds: float
    warnings: list[str]


class State(BaseModel):
    """Whether it is well, or ready."""

    status: str
