"""Pictures, texts and labels of requests in; vectors and ranked labels out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zebra.pretrained.bundle import check_labels, rank
from zebra.serve.encoder import together
from zebra.serve.errors import Refusal
from zebra.serve.fetch import fetch
from zebra.serve.limits import BODY_BYTES, PROMPTS
from zebra.serve.model_runner import TextVector
from zebra.serve.schema import Picture
from zebra.serve.service import Service
from zebra.text.templates import fill
from zebra.values import Prediction


async def classify(
    service: Service, pictures: Sequence[Picture], labels: Sequence[str], templates: Sequence[str]
) -> tuple[list[list[Prediction]], list[str]]:
    """Return the labels of every picture, best first, and warnings.

    Raises:
        ConfigError: A label is empty or named twice, or a template has no place for it.
        BadSample: A picture cannot be used.
        Refusal: Too much is asked for, or the server is too busy.
    """
    labels, prompts = check_labels(labels), len(labels) * len(templates)
    if prompts > PROMPTS:
        raise Refusal(
            422,
            f"{len(labels)} labels × {len(templates)} templates are {prompts:,} prompts; {PROMPTS:,} are allowed",
        )
    for template in templates:
        fill(template, labels[0])
    image_NE = await picture_vectors(service, pictures)
    head = await service.encoder.head(labels, templates)
    facts = service.encoder.facts
    warnings = (
        [f"{head.cut} of {prompts} prompts were cut to {facts.context_length} tokens"] if head.cut else []
    )
    return rank(image_NE, head.vectors_CE, labels, scale=facts.logit_scale, bias=facts.logit_bias), warnings


async def picture_vectors(service: Service, pictures: Sequence[Picture]) -> Tensor:
    """Return the unit vectors of pictures [N, E]; those of rows are the store's.

    Raises:
        BadSample: One cannot be used.
        ConfigError: A row is not in the store.
        Refusal: An address may not be fetched, or the server is too busy.
    """
    service.encoder.require_room(len(pictures))
    return torch.stack(await together([_vector(service, picture, n) for n, picture in enumerate(pictures)]))


async def text_vectors(service: Service, texts: Sequence[str]) -> tuple[list[TextVector], list[str]]:
    """Return texts as the model sees them, and warnings of those that are too long for it."""
    vectors = await service.encoder.texts(texts)
    length = service.encoder.facts.context_length
    return vectors, [
        f"only the beginning of {text[:40]!r}… was read: the model takes {length} tokens"
        for text, vector in zip(texts, vectors, strict=True)
        if vector.is_cut
    ]


async def _vector(service: Service, picture: Picture, number: int) -> Tensor:
    where = f"picture {number}"
    if picture.id is not None:
        [vector_E] = await service.reading(service.searcher.vectors, [picture.id])
        return torch.from_numpy(vector_E)
    if picture.url is not None:
        data = await fetch(picture.url, frozenset(service.config.allow_urls), most=BODY_BYTES)
        return await service.encoder.picture(data, where)
    return await service.encoder.picture(picture.data or "", where)
