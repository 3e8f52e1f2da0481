"""HTTP routes that list rows without a query and count the values of columns."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from zebra.search.facets import Facet
from zebra.serve.limits import MAX_FACETS, MAX_HITS, MAX_ROW_IDS, MAX_TEXT_LENGTH
from zebra.serve.requests import RequestModel, RowId
from zebra.serve.responses import RowResponse
from zebra.serve.search import row_response, to_json_value
from zebra.serve.service import Service

Filter = Annotated[str, Field(max_length=MAX_TEXT_LENGTH, description="a filter: width >= 640 and year = 2021")]


class RowsRequest(RequestModel):
    """Rows to list: those of a filter, or those with the given ids."""

    where: Filter | None = None
    ids: Annotated[list[RowId], Field(max_length=MAX_ROW_IDS)] | None = None
    order: Literal["newest", "oldest"] = "newest"
    """By the time when a row was added; `ids` keep their order."""
    k: Annotated[int, Field(ge=1, le=MAX_HITS)] = 20
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0


class RowsResponse(BaseModel):
    """One page of rows."""

    rows: list[RowResponse]
    num_matches: int
    num_rows: int
    more: bool
    seconds: float


class FacetsRequest(RequestModel):
    """A filter for all columns, and filters by the column whose facet chose them."""

    where: Filter | None = None
    selections: Annotated[dict[str, Filter], Field(max_length=MAX_FACETS, default_factory=dict)]


class FacetValue(BaseModel):
    """A value of a column and its number of rows."""

    value: str | bool | int
    count: int


class FacetResponse(BaseModel):
    """A column: the values of a category, or the range of a number or date."""

    name: str
    kind: Literal["category", "number", "date"]
    values: list[FacetValue]
    num_missing: int
    low: float | str | None
    high: float | str | None
    histogram: list[int]


class FacetsResponse(BaseModel):
    """The columns that divide the rows, with counts under the filter and the selections of all other columns."""

    facets: list[FacetResponse]
    num_matches: int
    num_rows: int


def browse_router(service: Service) -> APIRouter:
    """Return the routes for looking through the store of a service."""
    router = APIRouter(tags=["store"])

    @router.post("/v1/rows")
    async def list_rows(request: RowsRequest) -> RowsResponse:
        """List rows without a query: all, those that match a filter, or those with the given ids."""
        page = await service.read_pool(
            service.searcher.list_rows,
            request.where if request.where and request.where.strip() else None,
            ids=request.ids,
            k=request.k,
            offset=request.offset,
            newest_first=request.order == "newest",
        )
        return RowsResponse(
            rows=[row_response(str(row["id"]), row, service.config.root_path) for row in page.rows],
            num_matches=page.num_matches,
            num_rows=page.num_rows,
            more=page.has_more,
            seconds=page.seconds,
        )

    @router.post("/v1/facets")
    async def count_facets(request: FacetsRequest) -> FacetsResponse:
        """Count the values of each column, and give the range of numbers and dates with a histogram."""
        counts = await service.read_pool(
            service.searcher.count_facets,
            request.where if request.where and request.where.strip() else None,
            request.selections,
        )
        return FacetsResponse(
            facets=[_facet_response(facet) for facet in counts.facets],
            num_matches=counts.num_matches,
            num_rows=counts.num_rows,
        )

    return router


def _facet_response(facet: Facet) -> FacetResponse:
    return FacetResponse(
        name=facet.name,
        kind=facet.kind,
        values=[FacetValue(value=value, count=count) for value, count in facet.values],
        num_missing=facet.num_missing,
        low=_to_range_end(facet.low),
        high=_to_range_end(facet.high),
        histogram=list(facet.histogram),
    )


def _to_range_end(value: object) -> float | str | None:
    end = to_json_value(value)
    return end if isinstance(end, float | str) else float(end) if isinstance(end, int) else None
