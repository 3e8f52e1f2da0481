"""HTTP route that lists groups of near duplicates in the store."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from threadpoolctl import threadpool_limits

from zebra.errors import ConfigError
from zebra.serve.background import BackgroundResult
from zebra.serve.requests import RequestModel
from zebra.serve.responses import RowResponse
from zebra.serve.search import row_response
from zebra.serve.service import Service
from zebra.store import Store

HTTP_ACCEPTED = 202
MAX_ROWS = 200_000
"""Rows of a store that are compared with each other while somebody waits."""
ROUNDING = 1e-4
"""Tolerance for equal vectors that were rounded to float16."""
MAX_GROUPS = 50
"""Groups in one response."""
MAX_SHOWN_ROWS = 24
"""Rows of a group in a response; all its ids are there."""


class DuplicatesRequest(RequestModel):
    """One page of groups."""

    min_cosine: Annotated[float, Field(ge=0.5, le=1, strict=False)] = 0.98
    k: Annotated[int, Field(ge=1, le=MAX_GROUPS)] = 20
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0


class NearDuplicates(BaseModel):
    """Images that are nearly equal to the first, which has the most pixels."""

    ids: list[str]
    rows: list[RowResponse]
    """The first of them."""


class DuplicatesPending(BaseModel):
    """The groups are being computed; ask again in a second."""

    state: Literal["computing"] = "computing"


class DuplicatesResponse(BaseModel):
    """Groups of near duplicates, largest group first."""

    state: Literal["ready"] = "ready"
    groups: list[NearDuplicates]
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
            "`zebra dedup STORE --by vectors`"
        )
    return store.version


def _group_ids(store_path: Path, min_cosine: float) -> list[list[str]]:
    """Return the ids of each group, the largest image first, as `zebra dedup STORE --by vectors` groups them."""
    from zebra.curate.semantic import find_similar_originals  # imports SciPy

    store = Store.open(store_path)
    ids, vectors_NE = store.read_vectors()
    sizes = pa.table({name: _read_column(store, name) for name in ("width", "height", "path")})
    area_N = pc.fill_null(pc.multiply(sizes["width"].cast(pa.int64()), sizes["height"]), 0).to_numpy()
    row_N = np.lexsort((sizes["path"].to_numpy(), -area_N))
    row_N = row_N[np.any(vectors_NE[row_N], axis=1)]  # a zero vector resembles nothing
    with threadpool_limits(1):  # leave the other cores to the requests
        original_N = row_N[find_similar_originals(vectors_NE[row_N], min_cosine - ROUNDING)] if len(row_N) else row_N
    groups: dict[int, list[int]] = {}
    for row, original in zip(row_N.tolist(), original_N.tolist(), strict=True):
        groups.setdefault(original, []).append(row)
    several = sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
    return [ids.take(pa.array(group)).to_pylist() for group in several]


def _read_column(store: Store, name: str) -> pa.ChunkedArray:
    return pa.chunked_array([batch[name] for batch in store.scan([name])], store.schema.field(name).type)


async def _read_group(service: Service, ids: list[str]) -> NearDuplicates | None:
    """Return a group; None if all but one of the rows that would be shown were deleted."""
    page = await service.read_pool(service.searcher.list_rows, ids=ids[:MAX_SHOWN_ROWS], k=MAX_SHOWN_ROWS)
    rows = [row_response(str(row["id"]), row, service.config.root_path) for row in page.rows]
    return NearDuplicates(ids=ids, rows=rows) if len(rows) > 1 else None
