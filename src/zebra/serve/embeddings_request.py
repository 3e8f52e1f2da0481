"""Schema of embedding requests in the format of OpenAI, and of images beside it."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from zebra.serve.limits import MAX_EMBEDDING_INPUTS, MAX_INPUTS, MAX_TEXT_LENGTH
from zebra.serve.requests import RequestImage, RequestModel, Text, reject_image

_TEXT_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH}


def _to_list(value: Any) -> Any:
    """Return a single text as a list. A union of both would report two errors for every invalid request."""
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise ValueError("send texts, not token ids (LangChain: check_embedding_ctx_length=False)")
    if value is None:
        raise ValueError("send a text, or a list of texts")
    return [value] if isinstance(value, str) else value


class _ForeignModel(RequestModel):
    """A request in the format of another API: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ImageURL(_ForeignModel):
    """Where an image is: a data URI, or an https URL whose host the server allows."""

    url: Annotated[str, Field(min_length=1)]


class ContentPart(_ForeignModel):
    """A text or an image."""

    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: ImageURL | None = None

    @model_validator(mode="after")
    def _require_content(self) -> "ContentPart":
        if (self.text if self.type == "text" else self.image_url) is None:
            raise ValueError(f"a part of type {self.type} needs the field {self.type}")
        return self


class ChatMessage(_ForeignModel):
    """A message with one text or image."""

    role: Literal["user"]
    content: Annotated[list[ContentPart], Field(min_length=1, max_length=1)]


class EmbeddingsRequest(_ForeignModel):
    """Texts, images with `"modality": "image"` (as infinity takes them), or one text or image as a chat (as vLLM does).

    Images are data URIs, or https URLs whose hosts the server allows. `dimensions` of 0 are those of the model.
    """

    modality: Literal["text", "image"] = "text"
    input: Annotated[
        list[str],
        Field(min_length=1, max_length=MAX_EMBEDDING_INPUTS, default_factory=list),
        BeforeValidator(_to_list),
        WithJsonSchema(
            {
                "anyOf": [
                    _TEXT_SCHEMA,
                    {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1, "maxItems": MAX_EMBEDDING_INPUTS},
                ]
            }
        ),
    ]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1)] | None = None
    model: Annotated[str, Field(max_length=MAX_TEXT_LENGTH)] = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @field_validator("input")
    @classmethod
    def _check_input(cls, value: list[str], info: ValidationInfo) -> list[str]:
        is_image = info.data.get("modality") == "image"
        if is_image and len(value) > MAX_INPUTS:
            raise ValueError(f"{len(value)} images; a request takes at most {MAX_INPUTS}")
        for index, item in enumerate(value):
            if not item:
                raise ValueError(f"item {index} is empty")
            if is_image:
                _to_image(item)
            elif len(reject_image(item)) > MAX_TEXT_LENGTH:
                raise ValueError(f"text {index} has {len(item):,} characters, more than {MAX_TEXT_LENGTH:,}")
        return value

    @model_validator(mode="after")
    def _require_one_source(self) -> "EmbeddingsRequest":
        if bool(self.input) == (self.messages is not None):
            raise ValueError("input: send either input or messages")
        if self.messages is not None and self.messages[0].content[0].image_url is not None:
            _to_image(self.messages[0].content[0].image_url.url)
        return self

    @property
    def images(self) -> list[RequestImage]:
        """The images; none if texts are to be embedded."""
        if self.messages is not None:
            url = self.messages[0].content[0].image_url
            return [] if url is None else [_to_image(url.url)]
        return [_to_image(item) for item in self.input] if self.modality == "image" else []

    @property
    def texts(self) -> list[str]:
        """The texts; none if images are to be embedded."""
        if self.messages is not None:
            text = self.messages[0].content[0].text
            return [] if text is None else [text]
        return self.input if self.modality == "text" else []


def _to_image(uri: str) -> RequestImage:
    """Return an image by its URL or data URI; ValueError if the URL is too long."""
    if uri[:8].lower().startswith(("http://", "https://")):
        if len(uri) > MAX_TEXT_LENGTH:
            raise ValueError(f"a URL has {len(uri):,} characters, more than {MAX_TEXT_LENGTH:,}")
        return RequestImage(url=uri)
    return RequestImage(data=uri)
