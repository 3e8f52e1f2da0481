"""Classify and embed the images, texts and labels of requests."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zebra.pretrained.bundle import rank_labels
from zebra.serve.encoder import gather_or_cancel
from zebra.serve.errors import HTTPError
from zebra.serve.fetch import fetch_url
from zebra.serve.limits import MAX_BODY_BYTES, MAX_PROMPTS
from zebra.serve.model_runner import TextEmbedding
from zebra.serve.schema import RequestImage
from zebra.serve.service import Service
from zebra.text.labels import validate_labels
from zebra.text.templates import fill_template
from zebra.values import Prediction


async def classify_images(
    service: Service, images: Sequence[RequestImage], labels: Sequence[str], templates: Sequence[str]
) -> tuple[list[list[Prediction]], list[str]]:
    """Return the labels of every image, best first, and warnings.

    Raises:
        ConfigError: A label is empty or appears twice, or a template has no place for the label.
        BadSample: An image cannot be decoded.
        HTTPError: There are too many prompts (422), or the server is too busy (429, 503).
    """
    labels, num_prompts = validate_labels(labels), len(labels) * len(templates)
    if num_prompts > MAX_PROMPTS:
        raise HTTPError(
            422,
            f"too many prompts: {len(labels)} labels × {len(templates)} templates are {num_prompts:,} prompts, "
            f"more than {MAX_PROMPTS:,}",
        )
    for template in templates:
        fill_template(template, labels[0])
    image_NE = await embed_images(service, images)
    head = await service.encoder.build_head(labels, templates)
    metadata = service.encoder.metadata
    warnings = (
        [f"{head.num_truncated} of {num_prompts} prompts were cut to {metadata.context_length} tokens"]
        if head.num_truncated
        else []
    )
    return rank_labels(
        image_NE, head.vectors_CE, labels, scale=metadata.logit_scale, bias=metadata.logit_bias
    ), warnings


async def embed_images(service: Service, images: Sequence[RequestImage]) -> Tensor:
    """Return the unit vectors of images [N, E]; vectors of rows are read from the store.

    Raises:
        BadSample: An image cannot be decoded.
        ConfigError: A row is not in the store.
        HTTPError: A URL cannot be fetched (400), or the server is too busy (429, 503).
    """
    service.encoder.require_capacity(len(images))
    return torch.stack(
        await gather_or_cancel([_embed_image(service, image, index) for index, image in enumerate(images)])
    )


async def embed_texts(service: Service, texts: Sequence[str]) -> tuple[list[TextEmbedding], list[str]]:
    """Return the embeddings of texts, and a warning for each text that was truncated."""
    embeddings = await service.encoder.encode_texts(texts)
    length = service.encoder.metadata.context_length
    return embeddings, [
        f"only the beginning of {text[:40]!r}… was read: the model takes {length} tokens"
        for text, embedding in zip(texts, embeddings, strict=True)
        if embedding.is_truncated
    ]


async def _embed_image(service: Service, image: RequestImage, index: int) -> Tensor:
    where = f"image {index}"
    if image.id is not None:
        [vector_E] = await service.read_pool(service.searcher.read_vectors, [image.id])
        return torch.from_numpy(vector_E)
    if image.url is not None:
        allowed_hosts = frozenset(host.lower() for host in service.config.allow_url_hosts)
        data = await fetch_url(image.url, allowed_hosts, max_bytes=MAX_BODY_BYTES)
        return await service.encoder.encode_image(data, where)
    return await service.encoder.encode_image(image.data or "", where)
