"""Search requests: build the query vector, search the store, format the hits."""

import math
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import PurePosixPath
from urllib.parse import quote

from zebra.search.query import WeightedVector, combine_vectors
from zebra.search.results import image_path, path_in_dataset
from zebra.serve.inference import embed_images, embed_texts
from zebra.serve.requests import SearchRequest
from zebra.serve.responses import HitResponse, RowResponse, SearchResponse
from zebra.serve.service import Service
from zebra.store.schema import INTERNAL_COLUMNS
from zebra.values import Hit

NEGATIVE_WEIGHT = -0.5
"""Weight of an excluded term. With -1.0 the query vector would leave the topic of the wanted terms."""
TOP_LEVEL_COLUMNS = frozenset({"caption", "width", "height"})
"""Columns that have a field of their own in a hit."""


async def search_store(service: Service, request: SearchRequest) -> SearchResponse:
    """Search the store; raises what `Searcher.search` and `zebra.serve.inference` raise."""
    searcher = service.searcher
    row_ids = [*request.like, *request.unlike]
    wanted_texts = [request.text] if request.text and request.text.strip() else []
    terms: list[WeightedVector] = []
    texts, warnings = await embed_texts(service, [*wanted_texts, *request.without])
    weights = [1.0] * len(wanted_texts) + [NEGATIVE_WEIGHT] * len(request.without)
    terms += zip((searcher.cut_query(text.vector_E) for text in texts), weights, strict=True)
    if request.image is not None:
        terms.append((searcher.cut_query((await embed_images(service, [request.image]))[0]), 1.0))
    if row_ids:
        vectors_NE = await service.read_pool(searcher.read_vectors, row_ids)
        terms += zip(vectors_NE, [1.0] * len(request.like) + [NEGATIVE_WEIGHT] * len(request.unlike), strict=True)
    if request.image is not None and request.image.id is not None:
        row_ids.append(request.image.id)
    result = await service.search_pool(
        searcher.search,
        combine_vectors(terms),
        k=request.k,
        offset=request.offset,
        where=request.where,
        min_score=request.min_score,
        dedup=request.dedup,
        exclude=row_ids,
    )
    return SearchResponse(
        hits=[_hit_response(hit, service.config.root_path) for hit in result.hits],
        more=result.has_more,
        method=result.method,
        recall=result.recall,
        searched=result.num_rows,
        num_matches=result.num_matches,
        seconds=result.seconds,
        warnings=warnings,
    )


def row_response(id: str, row: Mapping[str, object], root_path: str) -> RowResponse:
    """Return a row without its internal columns, so that no folder above the dataset is shown.

    Args:
        root_path: Path of the server behind a proxy, the beginning of every URL.
    """
    url = f"{root_path}/v1/images/{quote(id, safe='')}"
    caption, width, height = row.get("caption"), row.get("width"), row.get("height")
    return RowResponse(
        id=id,
        name=PurePosixPath(image_path(row)).name,
        path=path_in_dataset(row),
        caption=caption.strip() if isinstance(caption, str) else None,
        width=width if isinstance(width, int) else None,
        height=height if isinstance(height, int) else None,
        columns={
            name: to_json_value(value)
            for name, value in row.items()
            if name not in INTERNAL_COLUMNS | TOP_LEVEL_COLUMNS
        },
        image=url,
        thumbnail=f"{url}/thumbnail",
    )


def _hit_response(hit: Hit, root_path: str) -> HitResponse:
    row = row_response(hit.id, hit.row, root_path)
    return HitResponse(**row.model_dump(), score=hit.score, num_duplicates=len(hit.duplicates))


def to_json_value(value: object) -> object:
    """Return a column value as JSON: dates in ISO format, NaN and infinity as None, other types as text."""
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [to_json_value(item) for item in value]
    return str(value)
