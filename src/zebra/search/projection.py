"""Two-dimensional projection of a store's vectors, for the map.

PCA, then t-SNE (van der Maaten and Hinton 2008), initialized with the principal components (Kobak and Berens 2019).
"""

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir
from zebra.errors import ConfigError, StoreError, suggest_name
from zebra.search.arrow_rows import to_unit_vectors
from zebra.search.column_kinds import MAX_NUMBER_CATEGORIES, ColumnSummary, summarize_columns
from zebra.store import Store
from zebra.store.schema import INTERNAL_COLUMNS

MAX_POINTS = 5000
"""t-SNE takes about 30 seconds for so many on one core, and a plot of more points is not readable."""
PCA_COMPONENTS = 50
TSNE_PERPLEXITY = 30
"""Approximate number of neighbors that stay close to a point."""
CACHE_VERSION = f"pca {PCA_COMPONENTS}, t-sne {TSNE_PERPLEXITY}, 1"
"""Part of the cache key; increase the last number when the same vectors would get other coordinates."""
MIN_SHARE_KNOWN = 0.5
"""Share of rows with a value from which a column can color the map."""
SEED = 0
"""Seed of the sample and of t-SNE; the same vectors get the same coordinates."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Rows of a store as points in two dimensions."""

    store_version: int
    num_rows: int
    """Rows in the store; if there are more than N, the points are a random sample."""
    positions: NDArray[np.int64]
    """Positions of the N points in that version of the store."""
    ids: tuple[str, ...]
    coords_N2: NDArray[np.float32]
    """In [-1, 1], centered at 0; y points up."""
    vector_NE: NDArray[np.float16] | NDArray[np.float32]
    """The vectors that were projected."""


@dataclass(frozen=True, slots=True)
class ColumnColors:
    """The values of a column, one for each point."""

    kind: Literal["category", "number"]
    values: tuple[str | float | None, ...]


def project_store(store: Store, *, max_points: int = MAX_POINTS) -> Projection:
    """Project the vectors of a store, and cache the coordinates in the cache directory.

    Args:
        max_points: Maximum number of points; of a larger store, a random sample is projected.

    Raises:
        StoreError: The store cannot be read.
    """
    num_rows = len(store)
    sample = np.arange(num_rows)
    if num_rows > max_points:
        sample = np.sort(np.random.default_rng(SEED).choice(num_rows, max_points, replace=False))
    positions = sample.astype(np.int64)
    if not num_rows:
        no_vectors = np.zeros((0, store.metadata.embed_dim), np.float32)
        return Projection(store.version, 0, positions, (), no_vectors[:, :2], no_vectors)
    table = store.take_positions(positions.tolist(), ["id", "vector"]).combine_chunks()
    vector_NE = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(positions), -1)
    key = hashlib.sha256(f"{CACHE_VERSION} {SEED} {vector_NE.shape}".encode() + vector_NE.tobytes()).hexdigest()[:32]
    cache_path = cache_dir() / "maps" / f"{key}.parquet"
    coords_N2 = _read_cache(cache_path, len(positions))
    if coords_N2 is None:
        coords_N2 = project_vectors(vector_NE.astype(np.float32))
        _write_cache(cache_path, coords_N2)
    return Projection(store.version, num_rows, positions, tuple(table["id"].to_pylist()), coords_N2, vector_NE)


def nearest_vector_index(projection: Projection, vector_CE: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each point the index [N] of the nearest of C vectors, for example of label vectors.

    Raises:
        ConfigError: There are no vectors, or they have another number of dimensions.
    """
    if not len(vector_CE) or vector_CE.shape[1:] != projection.vector_NE.shape[1:]:
        raise ConfigError(
            f"expected vectors with {projection.vector_NE.shape[1]} dimensions, got "
            f"{' × '.join(map(str, vector_CE.shape))}"
        )
    scores_NC = projection.vector_NE.astype(np.float32) @ to_unit_vectors(vector_CE).T
    nearest_N: NDArray[np.int64] = scores_NC.argmax(axis=1)
    return nearest_N


def project_vectors(vector_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return coordinates [N, 2] in [-1, 1] for N vectors, computed on one core."""
    from sklearn.decomposition import PCA  # importing takes a second
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, e = vector_NE.shape
    if n < 3 or not np.ptp(vector_NE, axis=0).any():  # t-SNE needs three distinct vectors
        coords_N2 = np.column_stack([np.linspace(-1, 1, n), np.zeros(n)])
    else:
        with threadpool_limits(1, "openmp"):  # leave the other cores to the rest of the process
            components = min(PCA_COMPONENTS, n, e)
            reduced_NC = PCA(components, random_state=SEED).fit_transform(vector_NE)
            perplexity = min(TSNE_PERPLEXITY, (n - 1) / 3)
            tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=SEED, n_jobs=1)
            coords_N2 = tsne.fit_transform(reduced_NC)
    coords_N2 = coords_N2 - (coords_N2.max(axis=0) + coords_N2.min(axis=0)) / 2
    largest = float(np.abs(coords_N2).max()) or 1.0
    scaled: NDArray[np.float32] = (coords_N2 / largest).astype(np.float32)
    return scaled


def list_color_columns(store: Store) -> list[ColumnSummary]:
    """Return the columns that can color the map; most rows have a value in each."""
    return [column for column in summarize_columns(store) if column.share_known >= MIN_SHARE_KNOWN]


def read_column_colors(store: Store, projection: Projection, column: str) -> ColumnColors:
    """Read a column for the points of a projection; dates become seconds since 1970.

    Raises:
        ConfigError: There is no such column, or it cannot color the map.
        StoreError: The store has another version than the projection.
    """
    kinds = _color_kinds(store.schema)
    if column not in kinds:
        raise ConfigError(f"the map cannot be colored by {column!r}.{suggest_name(column, kinds)}")
    if store.version != projection.store_version:
        raise StoreError(f"{store.path} changed after the map was computed. Reload the map.")
    kind = kinds[column]
    if not len(projection.ids):
        return ColumnColors(kind, ())
    values = store.take_positions(projection.positions.tolist(), [column])[column]
    is_few = pa.types.is_integer(values.type) and len(pc.unique(values)) <= MAX_NUMBER_CATEGORIES
    if kind == "category" or is_few:
        yes_no = {True: "yes", False: "no", None: None}
        is_boolean = pa.types.is_boolean(values.type)
        names = (yes_no[value] if is_boolean else value for value in values.to_pylist())
        return ColumnColors("category", tuple(None if name is None else str(name) for name in names))
    if pa.types.is_temporal(values.type):
        seconds = pa.timestamp("s", tz=getattr(values.type, "tz", None))
        values = values.cast(seconds, safe=False).cast(pa.int64())
    numbers = (float("nan") if value is None else float(value) for value in values.to_pylist())
    return ColumnColors(kind, tuple(number if math.isfinite(number) else None for number in numbers))


def _color_kinds(schema: pa.Schema) -> dict[str, Literal["category", "number"]]:
    """Return the columns that can color the map, with the kind of their values."""
    kinds = {field.name: _color_kind(field.type) for field in schema if field.name not in INTERNAL_COLUMNS}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _color_kind(type: pa.DataType) -> Literal["category", "number"] | None:
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_boolean(type):
        return "category"
    numeric = pa.types.is_integer(type) or pa.types.is_floating(type)
    return "number" if numeric or pa.types.is_timestamp(type) or pa.types.is_date(type) else None


def _read_cache(path: Path, num_points: int) -> NDArray[np.float32] | None:
    try:
        table = pq.read_table(path)
        coords_N2 = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()]).astype(np.float32)
    except (OSError, KeyError, pa.ArrowException):  # missing or incomplete: compute it again
        return None
    return coords_N2 if coords_N2.shape == (num_points, 2) else None


def _write_cache(path: Path, coords_N2: NDArray[np.float32]) -> None:
    with suppress(OSError):  # without the cache, the map is computed again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            pq.write_table(pa.table({"x": coords_N2[:, 0], "y": coords_N2[:, 1]}), partial)
