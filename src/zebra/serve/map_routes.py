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
from zebra.search.projection import Plane, colour_columns, colouring, nearest_of, project
from zebra.serve.errors import Refusal
from zebra.serve.limits import LABELS
from zebra.serve.schema import Asked
from zebra.store import Store

NOT_READY = 202


class Computing(BaseModel):
    """The map is being made; ask again in a second."""

    state: Literal["computing"] = "computing"


class Points(BaseModel):
    """The map: `shown` points of a store with `rows`."""

    state: Literal["ready"] = "ready"
    ids: list[str]
    x: list[float]
    y: list[float]
    rows: int
    shown: int
    columns: list[str]


class Colours(BaseModel):
    """A value for each point; dates are seconds since 1970."""

    kind: Literal["category", "number"]
    values: list[str | float | None]


class NearestRequest(Asked):
    """Vectors, of labels for instance, as /v1/embed gives them."""

    vectors: Annotated[
        list[Annotated[list[Annotated[float, Field(strict=False)]], Field(max_length=8192)]],
        Field(min_length=1, max_length=LABELS),
    ]


class Nearest(BaseModel):
    """For each point the number of the vector that is nearest to it, from 0."""

    nearest: list[int]


class Maps:
    """The newest map of one store, made by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._ready: tuple[Plane, Points] | None = None
        self._working = False
        self._failure: ZebraError | None = None

    def store(self) -> Store:
        """Open the store at its newest version."""
        return Store.open(self.path)

    def current(self) -> tuple[Plane, Points] | None:
        """Return the map of the store as it is; None while it is made, which this call may begin.

        Raises:
            ZebraError: It could not be made; the next call tries again.
        """
        version = self.store().version
        with self._lock:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            if self._ready is not None and self._ready[0].version == version:
                return self._ready
            if not self._working:
                self._working = True
                Thread(target=self._make, name="map", daemon=True).start()
            return None

    def _make(self) -> None:
        made, failure = None, None
        try:
            store = self.store()
            plane = project(store)
            made = plane, _points(plane, colour_columns(store))
        except ZebraError as error:
            failure = error
        finally:
            if made is None and failure is None:  # the thread dies of something that its log tells
                failure = ZebraError("the map could not be made; the server's log says what went wrong")
            with self._lock:
                self._ready, self._failure, self._working = made, failure, False


def router(path: Path) -> APIRouter:
    """Return the routes of the map of the store in a folder."""
    maps, routes = Maps(path), APIRouter(prefix="/v1/map", tags=["map"])

    @routes.get("", responses={NOT_READY: {"model": Computing}})
    def points(response: Response) -> Points | Computing:
        """Give the store's vectors as points of a plane, or say that they are being computed."""
        with _refused():
            found = maps.current()
        return found[1] if found else _computing(response)

    @routes.get("/columns/{name}", responses={NOT_READY: {"model": Computing}})
    def column(name: str, response: Response) -> Colours | Computing:
        """Give what a column says of each point."""
        with _refused():
            found = maps.current()
            if found is None:
                return _computing(response)
            colours = colouring(maps.store(), found[0], name)
        return Colours(kind=colours.kind, values=list(colours.values))

    @routes.post("/nearest", responses={NOT_READY: {"model": Computing}})
    def nearest(request: NearestRequest, response: Response) -> Nearest | Computing:
        """Say which of some vectors each point is nearest to."""
        if len({len(vector) for vector in request.vectors}) > 1:
            raise ConfigError("vectors that are compared are equally long")
        with _refused():
            found = maps.current()
        if found is None:
            return _computing(response)
        return Nearest(nearest=nearest_of(found[0], np.array(request.vectors, np.float32)).tolist())

    return routes


def _computing(response: Response) -> Computing:
    response.status_code = NOT_READY
    return Computing()


@contextmanager
def _refused() -> Iterator[None]:
    """Tell what is wrong with the store, which may be well again in a moment."""
    try:
        yield
    except StoreError as error:
        raise Refusal(503, str(error), retry_seconds=2) from error


def _points(plane: Plane, columns: list[str]) -> Points:
    x, y = (plane.place_N2[:, axis].round(4).tolist() for axis in (0, 1))
    return Points(ids=list(plane.ids), x=x, y=y, rows=plane.rows, shown=len(plane.ids), columns=columns)
