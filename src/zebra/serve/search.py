"""What is looked for in, what the store has of it out."""

import math
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import PurePosixPath
from urllib.parse import quote

import torch

from zebra.search.query import WeightedVector, combine_vectors
from zebra.serve.inference import embed_images, embed_texts
from zebra.serve.schema import HitResponse, RowResponse, SearchRequest, SearchResponse
from zebra.serve.service import Service
from zebra.values import Hit

NEGATIVE_WEIGHT = -0.5
"""Weight of what is not wanted; as much as what is wanted would leave its theme altogether."""
PLACES = frozenset({"id", "digest", "path", "offset", "size", "location", "source", "stamp"})
"""Columns that tell where things lie on this machine: they can be filtered by, but are not shown."""
TOP_LEVEL_COLUMNS = frozenset({"caption", "width", "height"})
"""Columns that a hit shows in a field of their own."""


async def search_store(service: Service, request: SearchRequest) -> SearchResponse:
    """Search the store; errors as those of `Searcher.search` and `zebra.serve.inference`."""
    searcher = service.searcher
    rows = [*request.like, *request.unlike]
    wanted = [request.text] if request.text and request.text.strip() else []
    parts: list[WeightedVector] = []
    texts, warnings = await embed_texts(service, [*wanted, *request.without])
    weights = [1.0] * len(wanted) + [NEGATIVE_WEIGHT] * len(request.without)
    parts += zip((text.vector_E for text in texts), weights, strict=True)
    if request.image is not None:
        parts.append(((await embed_images(service, [request.image]))[0], 1.0))
    if rows:
        vectors_NE = torch.from_numpy(await service.read_pool(searcher.read_vectors, rows))
        parts += zip(
            vectors_NE, [1.0] * len(request.like) + [NEGATIVE_WEIGHT] * len(request.unlike), strict=True
        )
    if request.image is not None and request.image.id is not None:
        rows.append(request.image.id)
    found = await service.search_pool(
        searcher.search,
        combine_vectors(parts),
        k=request.k,
        offset=request.offset,
        where=request.where,
        min_score=request.min_score,
        dedup=request.dedup,
        exclude=rows,
    )
    return SearchResponse(
        hits=[_hit_response(hit) for hit in found.hits],
        more=found.has_more,
        method=found.method,
        recall=found.recall,
        searched=found.num_rows,
        seconds=found.seconds,
        warnings=warnings,
    )


def row_response(id: str, row: Mapping[str, object]) -> RowResponse:
    """Return a row as it is shown: no place on this machine."""
    address = f"/v1/images/{quote(id, safe='')}"
    caption, width, height = row.get("caption"), row.get("width"), row.get("height")
    return RowResponse(
        id=id,
        name=PurePosixPath(str(row.get("location") or row.get("path") or id)).name,
        caption=caption.strip() if isinstance(caption, str) else None,
        width=width if isinstance(width, int) else None,
        height=height if isinstance(height, int) else None,
        columns={
            name: to_json_value(value)
            for name, value in row.items()
            if name not in PLACES | TOP_LEVEL_COLUMNS
        },
        image=address,
        thumbnail=f"{address}/thumbnail",
    )


def _hit_response(hit: Hit) -> HitResponse:
    row = row_response(hit.id, hit.row)
    return HitResponse(**row.model_dump(), score=hit.score, duplicates=len(hit.duplicates))


def to_json_value(value: object) -> object:
    """Return a value of a column as JSON has it."""
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [to_json_value(part) for part in value]
    return str(value)
