"""What is looked for in, what the store has of it out."""

import math
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import PurePosixPath
from urllib.parse import quote

import torch

from zebra.search.query import Part, combine
from zebra.serve.inference import picture_vectors, text_vectors
from zebra.serve.schema import HitAnswer, RowAnswer, SearchAnswer, SearchRequest
from zebra.serve.service import Service
from zebra.values import Hit

AWAY = -0.5
"""Weight of what is not wanted; as much as what is wanted would leave its theme altogether."""
PLACES = frozenset({"id", "digest", "path", "offset", "size", "location", "source", "stamp"})
"""Columns that tell where things lie on this machine: they can be filtered by, but are not shown."""
ELSEWHERE = frozenset({"caption", "width", "height"})
"""Columns that a hit shows in a field of their own."""


async def find(service: Service, asked: SearchRequest) -> SearchAnswer:
    """Search the store; errors as those of `Searcher.search` and `zebra.serve.inference`."""
    searcher = service.searcher
    rows = [*asked.like, *asked.unlike]
    wanted = [asked.text] if asked.text and asked.text.strip() else []
    parts: list[Part] = []
    texts, warnings = await text_vectors(service, [*wanted, *asked.without])
    weights = [1.0] * len(wanted) + [AWAY] * len(asked.without)
    parts += zip((text.vector_E for text in texts), weights, strict=True)
    if asked.image is not None:
        parts.append(((await picture_vectors(service, [asked.image]))[0], 1.0))
    if rows:
        vectors_NE = torch.from_numpy(await service.reading(searcher.vectors, rows))
        parts += zip(vectors_NE, [1.0] * len(asked.like) + [AWAY] * len(asked.unlike), strict=True)
    if asked.image is not None and asked.image.id is not None:
        rows.append(asked.image.id)
    found = await service.searching(
        searcher.search,
        combine(parts),
        k=asked.k,
        offset=asked.offset,
        where=asked.where,
        min_score=asked.min_score,
        fold=asked.fold,
        exclude=rows,
    )
    return SearchAnswer(
        hits=[_shown(hit) for hit in found.hits],
        more=found.more,
        method=found.method,
        recall=found.recall,
        searched=found.searched,
        seconds=found.seconds,
        warnings=warnings,
    )


def described(id: str, row: Mapping[str, object]) -> RowAnswer:
    """Return a row as it is shown: no place on this machine."""
    address = f"/v1/images/{quote(id, safe='')}"
    caption, width, height = row.get("caption"), row.get("width"), row.get("height")
    return RowAnswer(
        id=id,
        name=PurePosixPath(str(row.get("location") or row.get("path") or id)).name,
        caption=caption.strip() if isinstance(caption, str) else None,
        width=width if isinstance(width, int) else None,
        height=height if isinstance(height, int) else None,
        columns={name: plain(value) for name, value in row.items() if name not in PLACES | ELSEWHERE},
        image=address,
        thumbnail=f"{address}/thumbnail",
    )


def _shown(hit: Hit) -> HitAnswer:
    row = described(hit.id, hit.row)
    return HitAnswer(**row.model_dump(), score=hit.score, folded=len(hit.folded))


def plain(value: object) -> object:
    """Return a value of a column as JSON has it."""
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return str(value)
