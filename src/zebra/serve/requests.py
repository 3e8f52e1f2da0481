"""Schemas of HTTP requests; an invalid request gets 422."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PrivateAttr, Tag, model_validator

from zebra.serve.errors import REQUEST_FORMATS
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

MAX_NAMED_FIELDS = 3
"""Unknown fields that an error names."""
MAX_FIELD_LENGTH = 40
"""Characters of an unknown field in an error."""


def reject_image(value: Any) -> Any:
    """Return a text; ValueError if it is the data URI of an image."""
    if isinstance(value, str) and value[:11].lower() == "data:image/":
        raise ValueError(
            'this text is an image: send it to /v1/embed as {"images": [{"data": …}]}, or to /v1/embeddings with '
            '"modality": "image"'
        )
    return value


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH), BeforeValidator(reject_image)]
Base64 = Annotated[
    str, Field(min_length=1, max_length=MAX_BODY_BYTES, description="an image file in base64, or as a data URI")
]
RowId = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH, description="id of a row in the store")]
Labels = Annotated[list[Text], Field(min_length=1, max_length=MAX_LABELS)]


class RequestModel(BaseModel):
    """Base class of requests: no type conversion, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_fields(cls, data: Any) -> Any:
        """Reject unknown fields with one error; pydantic creates one for each, which may be a million."""
        if not isinstance(data, dict) or cls.model_config.get("extra") == "ignore":
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = [name for name in data if name not in known and name not in cls.model_fields]
        if unknown:
            names = ", ".join(name[:MAX_FIELD_LENGTH] for name in unknown[:MAX_NAMED_FIELDS])
            more = f" and {len(unknown) - MAX_NAMED_FIELDS:,} more" if len(unknown) > MAX_NAMED_FIELDS else ""
            message = f"unknown fields: {names}{more}; the fields are {', '.join(sorted(known))}"
            raise ValueError(message.encode("utf-8", "replace").decode())  # a name may be half a surrogate pair
        return data


class RequestImage(RequestModel):
    """A JPEG, PNG, WebP or GIF (first frame), given as bytes, as a row of the store or as a URL."""

    _file: bytes | None = PrivateAttr(default=None)

    data: Base64 | None = None
    id: RowId | None = None
    url: (
        Annotated[str, Field(max_length=MAX_TEXT_LENGTH, description="an https URL whose host the server allows")]
        | None
    ) = None

    @model_validator(mode="after")
    def _require_one_source(self) -> "RequestImage":
        if sum(value is not None for value in (self.data, self.id, self.url, self._file)) != 1:
            raise ValueError("an image needs exactly one of data, id and url")
        return self

    @classmethod
    def from_file(cls, file: bytes) -> "RequestImage":
        """Return an image of a form; JSON cannot give it."""
        image = cls.model_construct()
        image._file = file
        return image

    @property
    def file(self) -> bytes | None:
        """The bytes of an image of a form."""
        return self._file


RequestImages = Annotated[list[RequestImage], Field(min_length=1, max_length=MAX_INPUTS)]


class ClassifyRequest(RequestModel):
    """Images and candidate labels."""

    images: RequestImages
    labels: Labels
    templates: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEMPLATES)] | None = None
    """Prompts with {} in place of the label; without them, those of the model."""


class ZeroShotParameters(RequestModel):
    """Parameters of a request in Hugging Face's format."""

    candidate_labels: Labels
    hypothesis_template: Text | None = None
    """A prompt with {} in place of the label; without it, those of the model."""


class ZeroShotRequest(RequestModel):
    """A request in the format of Hugging Face's zero-shot-image-classification."""

    inputs: Base64 | Annotated[list[Base64], Field(min_length=1, max_length=MAX_INPUTS)]
    parameters: ZeroShotParameters


def _request_format(request: Any) -> str:
    is_hugging_face = hasattr(request, "inputs") or (isinstance(request, dict) and "inputs" in request)
    return REQUEST_FORMATS[is_hugging_face]


AnyClassifyRequest = Annotated[
    Annotated[ClassifyRequest, Tag(REQUEST_FORMATS[0])] | Annotated[ZeroShotRequest, Tag(REQUEST_FORMATS[1])],
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


class FeatureExtractionRequest(RequestModel):
    """A request in the format of Hugging Face's feature-extraction."""

    inputs: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]


AnyEmbedRequest = Annotated[
    Annotated[EmbedRequest, Tag(REQUEST_FORMATS[0])] | Annotated[FeatureExtractionRequest, Tag(REQUEST_FORMATS[1])],
    Discriminator(_request_format),
]


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
