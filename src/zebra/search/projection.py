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

from zebra.config.cache import cache_dir
from zebra.errors import ConfigError, StoreError, suggest_name
from zebra.store import Store

MAX_POINTS = 5000
"""Points at most: t-SNE takes half a minute for them on one core, and an eye does not take in more."""
PCA_COMPONENTS = 50
TSNE_PERPLEXITY = 30
"""Neighbours that a point keeps close to it, about."""
CACHE_VERSION = f"pca {PCA_COMPONENTS}, t-sne {TSNE_PERPLEXITY}, 1"
"""Names what is kept in the cache; the last number is raised when the same vectors would get other places."""
MAX_CATEGORIES = 100
"""More different words in a column are names rather than groups, and do not colour."""
PLUMBING = frozenset(
    {"id", "digest", "path", "offset", "size", "thumbnail", "vector", "location", "source", "stamp"}
)
"""Columns that say where a picture lies rather than what it is."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Some rows of a store as points."""

    store_version: int
    """Of the store."""
    num_rows: int
    """Of the store; if there are more than points, those shown were drawn by lot."""
    positions: NDArray[np.int64]
    """Of the N points in the order of that version."""
    ids: tuple[str, ...]
    coords_N2: NDArray[np.float32]
    """In [-1, 1], around 0; up is positive."""
    vector_NE: NDArray[np.float16] | NDArray[np.float32]
    """What is laid out."""


@dataclass(frozen=True, slots=True)
class ColumnColors:
    """A column's values, to colour points by."""

    kind: Literal["category", "number"]
    values: tuple[str | float | None, ...]


def project_store(store: Store, *, max_points: int = MAX_POINTS, seed: int = 0) -> Projection:
    """Lay out the vectors of a store, and keep what came out in the cache folder.

    Args:
        max_points: Points; of more rows, so many are drawn by lot.
        seed: Of the lot and of the layout: the same vectors get the same places.

    Raises:
        StoreError: The store cannot be read.
    """
    rows = len(store)
    chosen = np.arange(rows)
    if rows > max_points:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, max_points, replace=False))
    positions = chosen.astype(np.int64)
    if not rows:
        return Projection(store.version, 0, positions, (), *_empty_arrays(store))
    table = store.take_positions(positions.tolist(), ["id", "vector"]).combine_chunks()
    vector_NE = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(positions), -1)
    name = hashlib.sha256(
        f"{CACHE_VERSION} {seed} {vector_NE.shape}".encode() + vector_NE.tobytes()
    ).hexdigest()[:32]
    kept = cache_dir() / "maps" / f"{name}.parquet"
    place_N2 = _read_cache(kept, len(positions))
    if place_N2 is None:
        place_N2 = project_vectors(vector_NE.astype(np.float32), seed)
        _write_cache(kept, place_N2)
    return Projection(store.version, rows, positions, tuple(table["id"].to_pylist()), place_N2, vector_NE)


def nearest_vector_index(projection: Projection, vector_CE: NDArray[np.float32]) -> NDArray[np.int64]:
    """Say for each point which of some vectors is nearest to it: labels in words colour the map [N].

    Raises:
        ConfigError: The vectors are of another width, or there are none.
    """
    if not len(vector_CE) or vector_CE.shape[1:] != projection.vector_NE.shape[1:]:
        raise ConfigError(
            f"the map is of vectors with {projection.vector_NE.shape[1]} numbers, and cannot be compared with "
            f"{' × '.join(map(str, vector_CE.shape))}"
        )
    unit_CE = vector_CE / np.maximum(np.linalg.norm(vector_CE, axis=1, keepdims=True), 1e-12)
    best_N: NDArray[np.int64] = (projection.vector_NE.astype(np.float32) @ unit_CE.T).argmax(axis=1)
    return best_N


def project_vectors(vector_NE: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Return a place [N, 2] in [-1, 1] for each vector, on one core."""
    from sklearn.decomposition import PCA  # takes a second
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, e = vector_NE.shape
    if n < 3 or not np.ptp(vector_NE, axis=0).any():  # nothing to tell apart
        place_N2 = np.column_stack([np.linspace(-1, 1, n), np.zeros(n)])
    else:
        with threadpool_limits(1, "openmp"):  # the rest of the process goes on
            components = min(PCA_COMPONENTS, n, e)
            reduced_NC = PCA(components, random_state=seed).fit_transform(vector_NE)
            perplexity = min(TSNE_PERPLEXITY, (n - 1) / 3)
            place_N2 = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(
                reduced_NC
            )
    place_N2 = place_N2 - (place_N2.max(axis=0) + place_N2.min(axis=0)) / 2
    largest = float(np.abs(place_N2).max()) or 1.0
    scaled: NDArray[np.float32] = (place_N2 / largest).astype(np.float32)
    return scaled


def list_color_columns(store: Store) -> list[str]:
    """Name the columns that can colour: numbers, dates, yes or no, and words that are groups rather than names."""
    names = [
        field.name
        for field in store.schema
        if field.name not in PLUMBING and _color_kind(field.type) is not None
    ]
    held = store.take_positions(_sample_positions(len(store)), names) if names and len(store) else None
    return [name for name in names if held is not None and _is_informative(held[name])]


def read_column_colors(store: Store, projection: Projection, column: str) -> ColumnColors:
    """Read a column for the points of a plane.

    Raises:
        ConfigError: There is no such column, or it cannot colour.
        StoreError: The store is at another version than the plane.
    """
    known = [field.name for field in store.schema if field.name not in PLUMBING and _color_kind(field.type)]
    if column not in known:
        raise ConfigError(f"the map cannot be coloured by {column!r}.{suggest_name(column, known)}")
    if store.version != projection.store_version:
        raise StoreError(f"{store.path} has changed since the map was made; open the map again")
    kind = _color_kind(store.schema.field(column).type)
    assert kind is not None
    if not len(projection.ids):
        return ColumnColors(kind, ())
    values = store.take_positions(projection.positions.tolist(), [column])[column]
    if kind == "category":
        return ColumnColors(
            kind, tuple(None if value is None else _category_name(value) for value in values.to_pylist())
        )
    if pa.types.is_temporal(values.type):
        seconds = pa.timestamp("s", tz=getattr(values.type, "tz", None))
        values = values.cast(seconds, safe=False).cast(pa.int64())
    numbers = (None if value is None else float(value) for value in values.to_pylist())
    return ColumnColors(
        kind, tuple(None if number is None or not np.isfinite(number) else number for number in numbers)
    )


def _empty_arrays(store: Store) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.zeros((0, 2), np.float32), np.zeros((0, store.metadata.embed_dim), np.float32)


def _color_kind(type: pa.DataType) -> Literal["category", "number"] | None:
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_boolean(type):
        return "category"
    numeric = pa.types.is_integer(type) or pa.types.is_floating(type)
    return "number" if numeric or pa.types.is_timestamp(type) or pa.types.is_date(type) else None


def _is_informative(values: pa.ChunkedArray) -> bool:
    """Say whether a column is known of most points, tells them apart, and does not tell each from all others."""
    counts = Counter(value for value in values.to_pylist() if value is not None)
    if 2 * counts.total() < len(values):
        return False
    if _color_kind(values.type) == "number":
        return len(counts) > 1
    return 1 < len(counts) <= MAX_CATEGORIES and len(counts) <= max(2, counts.total() / 3)


def _sample_positions(num_rows: int) -> list[int]:
    """Return up to a thousand positions, evenly."""
    return [
        int(position) for position in np.unique(np.linspace(0, num_rows - 1, min(num_rows, 1000)).astype(int))
    ]


def _category_name(value: str | bool) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _read_cache(path: Path, num_points: int) -> NDArray[np.float32] | None:
    try:
        table = pq.read_table(path)
        place_N2 = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()]).astype(np.float32)
    except (OSError, KeyError, pa.ArrowException):  # not there, or not whole: it is made again
        return None
    return place_N2 if place_N2.shape == (num_points, 2) else None


def _write_cache(path: Path, coords_N2: NDArray[np.float32]) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": coords_N2[:, 0], "y": coords_N2[:, 1]}), partial)
        partial.replace(path)
    except OSError:  # a cache that cannot be written costs time alone
        partial.unlink(missing_ok=True)
