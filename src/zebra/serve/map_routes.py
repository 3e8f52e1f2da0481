"""The map of a store over HTTP: made in the background when it is first asked for, and anew when the store changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from zebra.errors import ConfigError, StoreError, ZebraError
from zebra.search.projection import (
    Projection,
    list_color_columns,
    nearest_vector_index,
    project_store,
    read_column_colors,
)
from zebra.serve.errors import HTTPError
from zebra.serve.limits import MAX_LABELS
from zebra.serve.schema import RequestModel
from zebra.store import Store

HTTP_ACCEPTED = 202


class MapPending(BaseModel):
    """The map is being made; ask again in a second."""

    state: Literal["computing"] = "computing"


class MapPoints(BaseModel):
    """The map: `shown` points of a store with `rows`."""

    state: Literal["ready"] = "ready"
    ids: list[str]
    x: list[float]
    y: list[float]
    num_rows: int
    num_points: int
    columns: list[str]


class PointColors(BaseModel):
    """A value for each point; dates are seconds since 1970."""

    kind: Literal["category", "number"]
    values: list[str | float | None]


class NearestVectorsRequest(RequestModel):
    """Vectors, of labels for instance, as /v1/embed gives them."""

    vectors: Annotated[
        list[Annotated[list[Annotated[float, Field(strict=False)]], Field(max_length=8192)]],
        Field(min_length=1, max_length=MAX_LABELS),
    ]


class NearestVectorsResponse(BaseModel):
    """For each point the number of the vector that is nearest to it, from 0."""

    nearest: list[int]


class MapBuilder:
    """The newest map of one store, made by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._result: tuple[Projection, MapPoints] | None = None
        self._is_building = False
        self._error: ZebraError | None = None

    def open_store(self) -> Store:
        """Open the store at its newest version."""
        return Store.open(self.path)

    def get_or_start(self) -> tuple[Projection, MapPoints] | None:
        """Return the map of the store as it is; None while it is made, which this call may begin.

        Raises:
            ZebraError: It could not be made; the next call tries again.
        """
        version = self.open_store().version
        with self._lock:
            failure, self._error = self._error, None
            if failure is not None:
                raise failure
            if self._result is not None and self._result[0].store_version == version:
                return self._result
            if not self._is_building:
                self._is_building = True
                Thread(target=self._build, name="map", daemon=True).start()
            return None

    def _build(self) -> None:
        made, failure = None, None
        try:
            store = self.open_store()
            plane = project_store(store)
            made = plane, _to_map_points(plane, list_color_columns(store))
        except ZebraError as error:
            failure = error
        finally:
            if made is None and failure is None:  # the thread dies of something that its log tells
                failure = ZebraError("the map could not be made; the server's log says what went wrong")
            with self._lock:
                self._result, self._error, self._is_building = made, failure, False


def map_router(store_path: Path) -> APIRouter:
    """Return the routes of the map of the store in a folder."""
    maps, routes = MapBuilder(store_path), APIRouter(prefix="/v1/map", tags=["map"])

    @routes.get("", responses={HTTP_ACCEPTED: {"model": MapPending}})
    def points(response: Response) -> MapPoints | MapPending:
        """Give the store's vectors as points of a plane, or say that they are being computed."""
        with _store_errors_as_unavailable():
            found = maps.get_or_start()
        return found[1] if found else _pending_response(response)

    @routes.get("/columns/{name}", responses={HTTP_ACCEPTED: {"model": MapPending}})
    def column(name: str, response: Response) -> PointColors | MapPending:
        """Give what a column says of each point."""
        with _store_errors_as_unavailable():
            found = maps.get_or_start()
            if found is None:
                return _pending_response(response)
            colours = read_column_colors(maps.open_store(), found[0], name)
        return PointColors(kind=colours.kind, values=list(colours.values))

    @routes.post("/nearest", responses={HTTP_ACCEPTED: {"model": MapPending}})
    def nearest(request: NearestVectorsRequest, response: Response) -> NearestVectorsResponse | MapPending:
        """Say which of some vectors each point is nearest to."""
        if len({len(vector) for vector in request.vectors}) > 1:
            raise ConfigError("vectors that are compared are equally long")
        with _store_errors_as_unavailable():
            found = maps.get_or_start()
        if found is None:
            return _pending_response(response)
        return NearestVectorsResponse(
            nearest=nearest_vector_index(found[0], np.array(request.vectors, np.float32)).tolist()
        )

    return routes


def _pending_response(response: Response) -> MapPending:
    response.status_code = HTTP_ACCEPTED
    return MapPending()


@contextmanager
def _store_errors_as_unavailable() -> Iterator[None]:
    """Tell what is wrong with the store, which may be well again in a moment."""
    try:
        yield
    except StoreError as error:
        raise HTTPError(503, str(error), retry_after_seconds=2) from error


def _to_map_points(projection: Projection, columns: list[str]) -> MapPoints:
    x, y = (projection.coords_N2[:, axis].round(4).tolist() for axis in (0, 1))
    return MapPoints(
        ids=list(projection.ids),
        x=x,
        y=y,
        num_rows=projection.num_rows,
        num_points=len(projection.ids),
        columns=columns,
    )
