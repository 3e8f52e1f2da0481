"""Pictures, texts and labels of requests in; vectors and ranked labels out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zebra.pretrained.bundle import rank_labels, validate_labels
from zebra.serve.encoder import gather_or_cancel
from zebra.serve.errors import HTTPError
from zebra.serve.fetch import fetch_url
from zebra.serve.limits import MAX_BODY_BYTES, MAX_PROMPTS
from zebra.serve.model_runner import TextEmbedding
from zebra.serve.schema import RequestImage
from zebra.serve.service import Service
from zebra.text.templates import fill_template
from zebra.values import Prediction


async def classify_images(
    service: Service, images: Sequence[RequestImage], labels: Sequence[str], templates: Sequence[str]
) -> tuple[list[list[Prediction]], list[str]]:
    """Return the labels of every picture, best first, and warnings.

    Raises:
        ConfigError: A label is empty or named twice, or a template has no place for it.
        BadSample: A picture cannot be used.
        Refusal: Too much is asked for, or the server is too busy.
    """
    labels, prompts = validate_labels(labels), len(labels) * len(templates)
    if prompts > MAX_PROMPTS:
        raise HTTPError(
            422,
            f"{len(labels)} labels × {len(templates)} templates are {prompts:,} prompts; {MAX_PROMPTS:,} are allowed",
        )
    for template in templates:
        fill_template(template, labels[0])
    image_NE = await embed_images(service, images)
    head = await service.encoder.build_head(labels, templates)
    facts = service.encoder.metadata
    warnings = (
        [f"{head.num_truncated} of {prompts} prompts were cut to {facts.context_length} tokens"]
        if head.num_truncated
        else []
    )
    return rank_labels(
        image_NE, head.vectors_CE, labels, scale=facts.logit_scale, bias=facts.logit_bias
    ), warnings


async def embed_images(service: Service, images: Sequence[RequestImage]) -> Tensor:
    """Return the unit vectors of pictures [N, E]; those of rows are the store's.

    Raises:
        BadSample: One cannot be used.
        ConfigError: A row is not in the store.
        Refusal: An address may not be fetched, or the server is too busy.
    """
    service.encoder.require_capacity(len(images))
    return torch.stack(
        await gather_or_cancel([_embed_image(service, picture, n) for n, picture in enumerate(images)])
    )


async def embed_texts(service: Service, texts: Sequence[str]) -> tuple[list[TextEmbedding], list[str]]:
    """Return texts as the model sees them, and warnings of those that are too long for it."""
    vectors = await service.encoder.encode_texts(texts)
    length = service.encoder.metadata.context_length
    return vectors, [
        f"only the beginning of {text[:40]!r}… was read: the model takes {length} tokens"
        for text, vector in zip(texts, vectors, strict=True)
        if vector.is_truncated
    ]


async def _embed_image(service: Service, image: RequestImage, index: int) -> Tensor:
    where = f"picture {index}"
    if image.id is not None:
        [vector_E] = await service.read_pool(service.searcher.read_vectors, [image.id])
        return torch.from_numpy(vector_E)
    if image.url is not None:
        data = await fetch_url(image.url, frozenset(service.config.allow_url_hosts), max_bytes=MAX_BODY_BYTES)
        return await service.encoder.encode_image(data, where)
    return await service.encoder.encode_image(image.data or "", where)
