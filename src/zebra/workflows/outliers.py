"""`zebra outliers`: unusual images and probable label errors of a store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.outliers import OutliersConfig
from zebra.embed.result_column import require_result_column, write_result_column
from zebra.errors import ConfigError, list_names
from zebra.report.outliers import FoundImage, write_outliers_page
from zebra.report.row_table import write_row_table
from zebra.search.clustering import is_beyond_fence
from zebra.search.label_errors import find_label_errors
from zebra.search.neighbors import Neighbors, find_neighbors
from zebra.search.results import image_path
from zebra.search.selection import Selection, select_rows
from zebra.store import Store
from zebra.store.schema import INTERNAL_COLUMNS

ROW_COLUMNS = ("id", "path", "location", "caption")
MIN_IMAGES = 3
MIN_LABEL_IMAGES = 3
"""Images with a rarer label are not judged: their neighbors cannot have it."""
Callback = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class OutliersResult:
    """Outliers among the images of a store, or probable label errors."""

    num_images: int
    """Images that were compared."""
    num_found: int
    """Outliers beyond Tukey's fence, or images with a suggested label."""
    num_references: int
    """Images among which neighbors were looked for: all, or a random sample."""
    images: tuple[FoundImage, ...]
    """The k images with the highest scores; with labels, only those with a suggested label."""
    left_out: Mapping[str, int]
    """Images that were not compared, by reason."""
    rows: pa.Table
    """A row per compared image: id, path, score and outlier, or label, suggested and score."""


def run(config: OutliersConfig, callback: Callback = lambda _done, _total: None) -> OutliersResult:
    """Find outliers, or with `label` probable label errors; write the table, the page and the column of the config.

    Args:
        callback: Called with the number of images done and their total.

    Raises:
        StoreError: The store is missing or damaged, or another process is writing to it.
        ConfigError: The filter is invalid or matches no image, there are too few images or labels, or a column is
            missing or cannot be used.
    """
    with Store.open(Path(config.store)) as store:
        require_result_column(store, config.column, pa.string() if config.label else pa.float32())
        if config.label:
            _require_label_column(store, config.label)
        selection = select_rows(store, config.where, [*ROW_COLUMNS, *([config.label] if config.label else [])])
        result = _find_label_errors(store, config, selection, callback) if config.label else None
        result = result or _find_outliers(store, config, selection, callback)
        if config.out:
            write_row_table(config.out, result.rows)
        if config.page:
            write_outliers_page(store, result.images, result.num_images, result.num_found, config.label, config.page)
        if config.column:
            values = result.rows["suggested" if config.label else "score"].combine_chunks()
            write_result_column(store, config.column, result.rows["id"].to_pylist(), values)
        return result


def _find_outliers(store: Store, config: OutliersConfig, selection: Selection, callback: Callback) -> OutliersResult:
    neighbors = _find_neighbors(store, config, selection, callback)
    score_N = neighbors.mean_distances()
    is_outlier_N = is_beyond_fence(score_N)
    best_K = np.argsort(-score_N, kind="stable")[: config.k]
    images = [
        _describe(selection, row, float(score_N[row]), is_outlier=bool(is_outlier_N[row])) for row in best_K.tolist()
    ]
    rows = pa.table({**_identify(selection), "score": pa.array(score_N), "outlier": pa.array(is_outlier_N)})
    return OutliersResult(len(selection), int(is_outlier_N.sum()), neighbors.num_references, tuple(images), {}, rows)


def _find_label_errors(
    store: Store, config: OutliersConfig, selection: Selection, callback: Callback
) -> OutliersResult:
    selection, label_N, names, left_out = _select_labeled(store, config, selection)
    neighbors = _find_neighbors(store, config, selection, callback)
    errors = find_label_errors(label_N, neighbors.index_NK)
    ranked = errors.ranked().tolist()
    margin_N = errors.suggested_share_N - errors.own_share_N
    images = [
        _describe(
            selection, row, float(margin_N[row]), label=names[label_N[row]], suggested=names[errors.suggested_N[row]]
        )
        for row in ranked[: config.k]
    ]
    suggested = [names[label] if label >= 0 else None for label in errors.suggested_N.tolist()]
    rows = pa.table(
        {
            **_identify(selection),
            "label": pa.array([names[label] for label in label_N.tolist()], pa.string()),
            "suggested": pa.array(suggested, pa.string()),
            "label_share": pa.array(errors.own_share_N, pa.float32()),
            "suggested_share": pa.array(errors.suggested_share_N, pa.float32()),
        }
    )
    return OutliersResult(len(selection), len(ranked), neighbors.num_references, tuple(images), left_out, rows)


def _find_neighbors(store: Store, config: OutliersConfig, selection: Selection, callback: Callback) -> Neighbors:
    if len(selection) < MIN_IMAGES:
        raise ConfigError(
            f"{store.path}: {len(selection)} images are too few to compare; there must be {MIN_IMAGES}. Use another "
            "--where, or embed more"
        )
    return find_neighbors(selection.vectors_NE, config.num_neighbors, callback=callback)


def _require_label_column(store: Store, name: str) -> None:
    columns = [
        field.name for field in store.schema if _is_label_type(field.type) and field.name not in INTERNAL_COLUMNS
    ]
    if name not in columns:
        kind = "cannot be labels: use text, whole numbers or yes/no" if name in store.schema.names else "is missing"
        raise ConfigError(f"{store.path}: the column {name!r} {kind}. Columns with labels: {list_names(columns)}")


def _is_label_type(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_integer(type) or pa.types.is_boolean(type))


def _select_labeled(
    store: Store, config: OutliersConfig, selection: Selection
) -> tuple[Selection, NDArray[np.int64], list[str], dict[str, int]]:
    """Return the images whose labels are not missing or rare, their labels, the names, and the counts of the others."""
    encoded = pc.dictionary_encode(selection.rows[config.label].cast(pa.string())).combine_chunks()
    code_N = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    count_N = np.where(code_N < 0, 0, np.bincount(code_N + 1)[code_N + 1])
    is_used_N = count_N >= MIN_LABEL_IMAGES
    left_out = {
        f"without a value of {config.label}": int((code_N < 0).sum()),
        f"with a label of fewer than {MIN_LABEL_IMAGES} images": int(((code_N >= 0) & ~is_used_N).sum()),
    }
    used_codes, label_M = np.unique(code_N[is_used_N], return_inverse=True)
    if len(used_codes) < 2:
        names = [encoded.dictionary[int(code)].as_py() for code in used_codes]
        raise ConfigError(
            f"{store.path}: label errors need two labels of at least {MIN_LABEL_IMAGES} images each; the column "
            f"{config.label!r} has {list_names(names) or 'none'}. Use another --label or --where"
        )
    row_M = np.flatnonzero(is_used_N)
    labeled = Selection(selection.rows.take(pa.array(row_M)), selection.positions_N[row_M], selection.vectors_NE[row_M])
    names = [encoded.dictionary[int(code)].as_py() for code in used_codes]
    return labeled, label_M, names, {reason: count for reason, count in left_out.items() if count}


def _identify(selection: Selection) -> dict[str, Any]:
    return {"id": selection.rows["id"], "path": [image_path(row) for row in selection.rows.to_pylist()]}


def _describe(selection: Selection, row: int, score: float, **properties: Any) -> FoundImage:
    values = selection.rows.slice(row, 1).to_pylist()[0]
    return FoundImage(
        int(selection.positions_N[row]), values["id"], image_path(values), values["caption"], score, **properties
    )
