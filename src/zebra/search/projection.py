"""A store in, its vectors as points of a plane out: what is alike lies together.

PCA, then t-SNE (van der Maaten and Hinton 2008, started from the principal components as Kobak and Berens 2019 advise).
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zebra.config.cache import cache_folder
from zebra.errors import ConfigError, StoreError, nearest
from zebra.store import Store

SHOWN = 5000
"""Points at most: t-SNE takes half a minute for them on one core, and an eye does not take in more."""
COMPONENTS = 50
PERPLEXITY = 30
"""Neighbours that a point keeps close to it, about."""
METHOD = f"pca {COMPONENTS}, t-sne {PERPLEXITY}, 1"
"""Names what is kept in the cache; the last number is raised when the same vectors would get other places."""
GROUPS = 100
"""More different words in a column are names rather than groups, and do not colour."""
PLUMBING = frozenset(
    {"id", "digest", "path", "offset", "size", "thumbnail", "vector", "location", "source", "stamp"}
)
"""Columns that say where a picture lies rather than what it is."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Some rows of a store as points."""

    version: int
    """Of the store."""
    rows: int
    """Of the store; if there are more than points, those shown were drawn by lot."""
    positions: NDArray[np.int64]
    """Of the N points in the order of that version."""
    ids: tuple[str, ...]
    place_N2: NDArray[np.float32]
    """In [-1, 1], around 0; up is positive."""
    vector_NE: NDArray[np.float16] | NDArray[np.float32]
    """What is laid out."""


@dataclass(frozen=True, slots=True)
class Colouring:
    """A column's values, to colour points by."""

    kind: Literal["category", "number"]
    values: tuple[str | float | None, ...]


def project(store: Store, *, most: int = SHOWN, seed: int = 0) -> Plane:
    """Lay out the vectors of a store, and keep what came out in the cache folder.

    Args:
        most: Points; of more rows, so many are drawn by lot.
        seed: Of the lot and of the layout: the same vectors get the same places.

    Raises:
        StoreError: The store cannot be read.
    """
    rows = len(store)
    chosen = np.arange(rows)
    if rows > most:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    positions = chosen.astype(np.int64)
    if not rows:
        return Plane(store.version, 0, positions, (), *_nothing(store))
    table = store.at(positions.tolist(), ["id", "vector"]).combine_chunks()
    vector_NE = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(positions), -1)
    name = hashlib.sha256(f"{METHOD} {seed} {vector_NE.shape}".encode() + vector_NE.tobytes()).hexdigest()[
        :32
    ]
    kept = cache_folder() / "maps" / f"{name}.parquet"
    place_N2 = _read(kept, len(positions))
    if place_N2 is None:
        place_N2 = layout(vector_NE.astype(np.float32), seed)
        _write(kept, place_N2)
    return Plane(store.version, rows, positions, tuple(table["id"].to_pylist()), place_N2, vector_NE)


def nearest_of(plane: Plane, vector_CE: NDArray[np.float32]) -> NDArray[np.int64]:
    """Say for each point which of some vectors is nearest to it: labels in words colour the map [N].

    Raises:
        ConfigError: The vectors are of another width, or there are none.
    """
    if not len(vector_CE) or vector_CE.shape[1:] != plane.vector_NE.shape[1:]:
        raise ConfigError(
            f"the map is of vectors with {plane.vector_NE.shape[1]} numbers, and cannot be compared with "
            f"{' × '.join(map(str, vector_CE.shape))}"
        )
    unit_CE = vector_CE / np.maximum(np.linalg.norm(vector_CE, axis=1, keepdims=True), 1e-12)
    best_N: NDArray[np.int64] = (plane.vector_NE.astype(np.float32) @ unit_CE.T).argmax(axis=1)
    return best_N


def layout(vector_NE: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Return a place [N, 2] in [-1, 1] for each vector, on one core."""
    from sklearn.decomposition import PCA  # takes a second
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, e = vector_NE.shape
    if n < 3 or not np.ptp(vector_NE, axis=0).any():  # nothing to tell apart
        place_N2 = np.column_stack([np.linspace(-1, 1, n), np.zeros(n)])
    else:
        with threadpool_limits(1, "openmp"):  # the rest of the process goes on
            components = min(COMPONENTS, n, e)
            reduced_NC = PCA(components, random_state=seed).fit_transform(vector_NE)
            perplexity = min(PERPLEXITY, (n - 1) / 3)
            place_N2 = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(
                reduced_NC
            )
    place_N2 = place_N2 - (place_N2.max(axis=0) + place_N2.min(axis=0)) / 2
    largest = float(np.abs(place_N2).max()) or 1.0
    scaled: NDArray[np.float32] = (place_N2 / largest).astype(np.float32)
    return scaled


def colour_columns(store: Store) -> list[str]:
    """Name the columns that can colour: numbers, dates, yes or no, and words that are groups rather than names."""
    names = [
        field.name for field in store.schema if field.name not in PLUMBING and _kind(field.type) is not None
    ]
    held = store.at(_some(len(store)), names) if names and len(store) else None
    return [name for name in names if held is not None and _divides(held[name])]


def colouring(store: Store, plane: Plane, column: str) -> Colouring:
    """Read a column for the points of a plane.

    Raises:
        ConfigError: There is no such column, or it cannot colour.
        StoreError: The store is at another version than the plane.
    """
    known = [field.name for field in store.schema if field.name not in PLUMBING and _kind(field.type)]
    if column not in known:
        raise ConfigError(f"the map cannot be coloured by {column!r}.{nearest(column, known)}")
    if store.version != plane.version:
        raise StoreError(f"{store.path} has changed since the map was made; open the map again")
    kind = _kind(store.schema.field(column).type)
    assert kind is not None
    if not len(plane.ids):
        return Colouring(kind, ())
    values = store.at(plane.positions.tolist(), [column])[column]
    if kind == "category":
        return Colouring(kind, tuple(None if value is None else _word(value) for value in values.to_pylist()))
    if pa.types.is_temporal(values.type):
        seconds = pa.timestamp("s", tz=getattr(values.type, "tz", None))
        values = values.cast(seconds, safe=False).cast(pa.int64())
    numbers = (None if value is None else float(value) for value in values.to_pylist())
    return Colouring(
        kind, tuple(None if number is None or not np.isfinite(number) else number for number in numbers)
    )


def _nothing(store: Store) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.zeros((0, 2), np.float32), np.zeros((0, store.facts.embed_dim), np.float32)


def _kind(kind: pa.DataType) -> Literal["category", "number"] | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind):
        return "category"
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return "number" if numeric or pa.types.is_timestamp(kind) or pa.types.is_date(kind) else None


def _divides(values: pa.ChunkedArray) -> bool:
    """Say whether a column is known of most points, tells them apart, and does not tell each from all others."""
    counts = Counter(value for value in values.to_pylist() if value is not None)
    if 2 * counts.total() < len(values):
        return False
    if _kind(values.type) == "number":
        return len(counts) > 1
    return 1 < len(counts) <= GROUPS and len(counts) <= max(2, counts.total() / 3)


def _some(rows: int) -> list[int]:
    """Return up to a thousand positions, evenly."""
    return [int(position) for position in np.unique(np.linspace(0, rows - 1, min(rows, 1000)).astype(int))]


def _word(value: str | bool) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _read(path: Path, rows: int) -> NDArray[np.float32] | None:
    try:
        table = pq.read_table(path)
        place_N2 = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()]).astype(np.float32)
    except (OSError, KeyError, pa.ArrowException):  # not there, or not whole: it is made again
        return None
    return place_N2 if place_N2.shape == (rows, 2) else None


def _write(path: Path, place_N2: NDArray[np.float32]) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": place_N2[:, 0], "y": place_N2[:, 1]}), partial)
        partial.replace(path)
    except OSError:  # a cache that cannot be written costs time alone
        partial.unlink(missing_ok=True)
