"""HTTP routes of the map, the vectors of a store in two dimensions.

A background thread computes the projection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from threadpoolctl import threadpool_limits

from zebra.errors import ConfigError, StoreError
from zebra.search.cluster_names import words_from_captions
from zebra.search.clustering import cluster_vectors
from zebra.search.column_kinds import MAX_NUMBER_CATEGORIES, ColumnSummary
from zebra.search.projection import (
    Projection,
    list_color_columns,
    nearest_vector_index,
    project_store,
    read_column_colors,
)
from zebra.serve.background import BackgroundResult
from zebra.serve.errors import HTTPError
from zebra.serve.limits import MAX_LABELS
from zebra.serve.requests import RequestModel
from zebra.store import Store

HTTP_ACCEPTED = 202
MAX_VECTOR_LENGTH = 8192
NUM_CLUSTERS = 10
"""As many as a map has distinct colors for."""


class MapPending(BaseModel):
    """The map is being computed; ask again in a second."""

    state: Literal["computing"] = "computing"


class MapPoints(BaseModel):
    """The map: `num_points` points from a store with `num_rows` rows."""

    state: Literal["ready"] = "ready"
    ids: list[str]
    x: list[float]
    y: list[float]
    num_rows: int
    num_points: int
    columns: list[str]
    default_column: str | None
    """A column of few values, if there is one."""


class PointColors(BaseModel):
    """The value of a column for each point; dates are seconds since 1970."""

    kind: Literal["category", "number"]
    values: list[str | float | None]


class NearestVectorsRequest(RequestModel):
    """Vectors to compare the points with, for example label vectors from /v1/embed."""

    vectors: Annotated[
        list[Annotated[list[Annotated[float, Field(strict=False)]], Field(max_length=MAX_VECTOR_LENGTH)]],
        Field(min_length=1, max_length=MAX_LABELS),
    ]


class NearestVectorsResponse(BaseModel):
    """For each point, the index of the nearest vector, from 0."""

    nearest: list[int]


class MapBuilder:
    """The current map of a store, computed in the background."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._background: BackgroundResult[tuple[Projection, MapPoints]] = BackgroundResult("map")
        self._clusters: tuple[Projection, list[str]] | None = None
        self._clusters_lock = Lock()

    def open_store(self) -> Store:
        """Open the newest version of the store."""
        return Store.open(self.path)

    def get_or_start(self) -> tuple[Projection, MapPoints] | None:
        """Return the map of the newest version; None while it is computed, which this call starts if necessary.

        Raises:
            ZebraError: The computation failed; the next call starts it again.
        """
        return self._background.get_or_start(self.open_store().version, self._build)

    def cluster_names(self) -> list[str] | None:
        """Return the name of the cluster of each point, from the captions; None while the map is computed.

        Raises:
            ZebraError: As `get_or_start`.
        """
        result = self.get_or_start()
        if result is None:
            return None
        projection = result[0]
        with self._clusters_lock:
            if self._clusters is None or self._clusters[0] is not projection:
                self._clusters = projection, _name_clusters(self.open_store(), projection)
            return self._clusters[1]

    def _build(self) -> tuple[Projection, MapPoints]:
        store = self.open_store()
        projection = project_store(store)
        return projection, _to_map_points(projection, list_color_columns(store))


def map_router(store_path: Path) -> APIRouter:
    """Return the routes of the map of a store."""
    builder, router = MapBuilder(store_path), APIRouter(prefix="/v1/map", tags=["map"])

    @router.get("", responses={HTTP_ACCEPTED: {"model": MapPending}})
    def get_map(response: Response) -> MapPoints | MapPending:
        """Return the vectors of the store as points in two dimensions, or 202 while they are computed."""
        with _store_errors_as_unavailable():
            result = builder.get_or_start()
        return result[1] if result else _pending_response(response)

    @router.get("/columns/{name}", responses={HTTP_ACCEPTED: {"model": MapPending}})
    def get_map_column(name: str, response: Response) -> PointColors | MapPending:
        """Return the value of a column for each point."""
        with _store_errors_as_unavailable():
            result = builder.get_or_start()
            if result is None:
                return _pending_response(response)
            colors = read_column_colors(builder.open_store(), result[0], name)
        return PointColors(kind=colors.kind, values=list(colors.values))

    @router.get("/clusters", responses={HTTP_ACCEPTED: {"model": MapPending}})
    def get_map_clusters(response: Response) -> PointColors | MapPending:
        """Return the cluster of each point, named by words that its captions have and others do not."""
        with _store_errors_as_unavailable():
            names = builder.cluster_names()
        return _pending_response(response) if names is None else PointColors(kind="category", values=list(names))

    @router.post("/nearest", responses={HTTP_ACCEPTED: {"model": MapPending}})
    def find_nearest(request: NearestVectorsRequest, response: Response) -> NearestVectorsResponse | MapPending:
        """Return for each point which of the given vectors is nearest."""
        if len({len(vector) for vector in request.vectors}) > 1:
            raise ConfigError("the vectors have different lengths; send vectors of equal length")
        with _store_errors_as_unavailable():
            result = builder.get_or_start()
        if result is None:
            return _pending_response(response)
        return NearestVectorsResponse(
            nearest=nearest_vector_index(result[0], np.array(request.vectors, np.float32)).tolist()
        )

    return router


def _pending_response(response: Response) -> MapPending:
    response.status_code = HTTP_ACCEPTED
    return MapPending()


@contextmanager
def _store_errors_as_unavailable() -> Iterator[None]:
    """Turn a StoreError into HTTPError (503): the store may be readable again in a moment."""
    try:
        yield
    except StoreError as error:
        raise HTTPError(503, str(error), retry_after_seconds=2) from error


def _to_map_points(projection: Projection, columns: list[ColumnSummary]) -> MapPoints:
    x, y = (projection.coords_N2[:, axis].round(4).tolist() for axis in (0, 1))
    return MapPoints(
        ids=list(projection.ids),
        x=x,
        y=y,
        num_rows=projection.num_rows,
        num_points=len(projection.ids),
        columns=[column.name for column in columns],
        default_column=next((column.name for column in columns if _has_few_values(column)), None),
    )


def _name_clusters(store: Store, projection: Projection) -> list[str]:
    """Return the name of the cluster of each point."""
    num_points = len(projection.ids)
    if not num_points:
        return []
    with threadpool_limits(1):  # leave the other cores to the requests
        clustering = cluster_vectors(projection.vector_NE, min(NUM_CLUSTERS, num_points))
    captions = store.take_positions(projection.positions.tolist(), ["caption"])["caption"].to_pylist()
    words = words_from_captions(captions, clustering.cluster_N, len(clustering))
    return [words[cluster].name for cluster in clustering.cluster_N.tolist()]


def _has_few_values(column: ColumnSummary) -> bool:
    return column.kind == "category" and 2 <= column.num_values <= MAX_NUMBER_CATEGORIES
