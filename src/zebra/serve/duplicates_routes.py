"""HTTP route that lists groups of near duplicates in the store."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from threadpoolctl import threadpool_limits

from zebra.errors import ConfigError
from zebra.search.near_duplicates import group_near_duplicates
from zebra.serve.background import BackgroundResult
from zebra.serve.requests import RequestModel
from zebra.serve.responses import RowResponse
from zebra.serve.search import row_response
from zebra.serve.service import Service
from zebra.store import Store

HTTP_ACCEPTED = 202
MAX_ROWS = 100_000
"""Rows of a store whose vectors are compared with each other; the time is quadratic."""
MAX_GROUPS = 50
"""Groups in one response."""
MAX_SHOWN_ROWS = 24
"""Rows of a group in a response; all its ids are there."""


class DuplicatesRequest(RequestModel):
    """One page of groups."""

    min_cosine: Annotated[float, Field(ge=0.5, le=1, strict=False)] = 0.98
    k: Annotated[int, Field(ge=1, le=MAX_GROUPS)] = 20
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0


class DuplicateGroup(BaseModel):
    """Images that are nearly equal, the largest of those shown first."""

    ids: list[str]
    rows: list[RowResponse]
    """The first of them."""


class DuplicatesPending(BaseModel):
    """The groups are being computed; ask again in a second."""

    state: Literal["computing"] = "computing"


class DuplicatesResponse(BaseModel):
    """Groups of near duplicates, largest group first."""

    state: Literal["ready"] = "ready"
    groups: list[DuplicateGroup]
    num_groups: int
    num_duplicates: int
    """Number of images besides the first of each group."""
    more: bool


def duplicates_router(service: Service, store_path: Path) -> APIRouter:
    """Return the route of the near duplicates of a store."""
    router = APIRouter(tags=["store"])
    background: BackgroundResult[list[list[str]]] = BackgroundResult("near duplicates")

    @router.post("/v1/duplicates", responses={HTTP_ACCEPTED: {"model": DuplicatesPending}})
    async def list_duplicates(request: DuplicatesRequest, response: Response) -> DuplicatesResponse | DuplicatesPending:
        """List groups of images whose vectors are nearly equal, or answer 202 while they are computed."""
        version = await service.read_pool(_require_comparable, store_path)
        compute = partial(_group_ids, store_path, request.min_cosine)
        groups = background.get_or_start((version, request.min_cosine), compute)
        if groups is None:
            response.status_code = HTTP_ACCEPTED
            return DuplicatesPending()
        page = groups[request.offset : request.offset + request.k]
        return DuplicatesResponse(
            groups=[group for ids in page if (group := await _read_group(service, ids))],
            num_groups=len(groups),
            num_duplicates=sum(len(ids) - 1 for ids in groups),
            more=request.offset + request.k < len(groups),
        )

    return router


def _require_comparable(store_path: Path) -> int:
    """Return the version of a store; ConfigError if it has too many rows."""
    store = Store.open(store_path)
    if len(store) > MAX_ROWS:
        raise ConfigError(
            f"the store has {len(store):,} images; up to {MAX_ROWS:,} are compared with each other here. Use "
            "`zebra dedup STORE`, which compares hashes of the images"
        )
    return store.version


def _group_ids(store_path: Path, min_cosine: float) -> list[list[str]]:
    ids, vectors_NE = Store.open(store_path).read_vectors()
    with threadpool_limits(1):  # leave the other cores to the requests
        groups: list[NDArray[np.int64]] = group_near_duplicates(vectors_NE, min_cosine)
    return [ids.take(group).to_pylist() for group in groups]


async def _read_group(service: Service, ids: list[str]) -> DuplicateGroup | None:
    """Return a group; None if all but one of the rows that would be shown were deleted."""
    page = await service.read_pool(service.searcher.list_rows, ids=ids[:MAX_SHOWN_ROWS], k=MAX_SHOWN_ROWS)
    rows = [row_response(str(row["id"]), row, service.config.root_path) for row in page.rows]
    rows.sort(key=lambda row: -(row.width or 0) * (row.height or 0))
    shown = [row.id for row in rows]
    return DuplicateGroup(ids=[*shown, *ids[MAX_SHOWN_ROWS:]], rows=rows) if len(rows) > 1 else None
