"""`zebra columns`: list, join and remove the columns of a store."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from zebra.config.columns import ColumnsConfig
from zebra.data.columns import IMAGE_COLUMNS, choose_columns, convert_cell, is_scalar, match_column
from zebra.data.table_files import TABLE_FORMATS, BadRow, TableFile, open_table, require_distinct
from zebra.data.tables import infer_schema
from zebra.embed.columns import JOINED_KEY, is_joined, user_columns
from zebra.embed.stages import EMBED_COLUMNS
from zebra.errors import BadSample, ConfigError, DataError, escape_unencodable
from zebra.search.results import image_path, path_in_dataset
from zebra.store import Store
from zebra.store.schema import BASE_COLUMNS, is_column_name


@dataclass(frozen=True, slots=True)
class StoreColumn:
    """A column of a store beyond those that zebra itself needs."""

    name: str
    type: str
    num_values: int
    """Rows with a value."""
    is_joined: bool
    """Whether it was joined from a table; `zebra embed` fills the others."""


@dataclass(slots=True)
class JoinResult:
    """Counts of a join."""

    columns: tuple[str, ...]
    on: str
    """id or path."""
    num_matched: int = 0
    """Images whose values were set."""
    unmatched: Counter[str] = field(default_factory=Counter)
    """Rows of the table that were not used, by reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """Reason → the first such row."""

    def count_unmatched(self, reason: str, example: str) -> None:
        """Count a row that is not used."""
        self.unmatched[reason] += 1
        self.examples.setdefault(reason, example)


@dataclass(frozen=True, slots=True)
class ColumnsResult:
    """The columns of a store after the run."""

    num_rows: int
    columns: tuple[StoreColumn, ...]
    join: JoinResult | None
    """None unless a table was joined."""


def run(config: ColumnsConfig) -> ColumnsResult:
    """List the columns of a store, after joining those of a table or removing some.

    Raises:
        StoreError: The store is missing, damaged or locked by another process.
        DataError: The table is damaged, has neither ids nor paths, or matches no image.
        ConfigError: A column is missing, or is filled by `zebra embed`.
    """
    with Store.open(Path(config.store)) as store:
        if config.drop:
            _drop_columns(store, config.drop)
        join = _join_table(store, config) if config.table else None
        fields = user_columns(store)
        num_values = Counter[str]()
        for batch in store.scan(fields.names) if len(fields) else ():
            num_values.update({name: batch.num_rows - batch[name].null_count for name in fields.names})
        columns = [StoreColumn(item.name, str(item.type), num_values[item.name], is_joined(item)) for item in fields]
        return ColumnsResult(len(store), tuple(columns), join)


def _drop_columns(store: Store, names: Sequence[str]) -> None:
    for name in names:
        if name in EMBED_COLUMNS.names or name in BASE_COLUMNS:
            raise ConfigError(f"the column {name!r} of {store.path} is zebra's own and cannot be removed")
    store.drop_columns(names)


def _join_table(store: Store, config: ColumnsConfig) -> JoinResult:
    path = Path(config.table)
    if path.suffix.lower() not in TABLE_FORMATS or not path.is_file():
        raise DataError(f"{path} is not a table. Give a {', '.join(TABLE_FORMATS)} file with a column id or path")
    table = open_table(path)
    key_columns = _find_key_columns(table, path, config.on)
    schema = _choose_fields(store, table, path, config, [*key_columns.values()])
    result = min(
        (_match_rows(store, table, path, schema, on, column) for on, column in key_columns.items()),
        key=lambda match: -len(match[1]),
    )
    join, values = result
    if not values:
        reasons = "; ".join(
            f"{count} {reason}, first {join.examples[reason]}" for reason, count in join.unmatched.items()
        )
        raise DataError(
            f"no row of {path} matches an image of {store.path}: {reasons or 'it has no rows'}. "
            "Give ids as zebra search --json prints them, or paths relative to the table or to the embedded folder"
        )
    new_fields = [item for item in schema if item.name not in store.schema.names]
    if new_fields:
        store.add_columns(pa.schema([item.with_metadata({JOINED_KEY: b"true"}) for item in new_fields]))
    arrays = [pa.array([row[item.name] for row in values.values()], item.type) for item in schema]
    store.set_values(pa.table([pa.array(values, pa.string()), *arrays], names=["id", *schema.names]))
    join.num_matched = len(values)
    return join


def _find_key_columns(table: TableFile, path: Path, on: str) -> dict[str, str]:
    """Return the columns to join by: id, path, or both."""
    columns = {}
    for kind, names in (("id", ("id",)), ("path", IMAGE_COLUMNS)):
        matches = [column for name in names if (column := match_column(name, table.columns, path))]
        if matches and on in ("auto", kind):
            columns[kind] = matches[0]
    if not columns:
        wanted = "id" if on == "id" else ", ".join(IMAGE_COLUMNS) + (" or id" if on == "auto" else "")
        raise DataError(f"{path} has no column to join by ({wanted}). Its columns are: {', '.join(table.columns)}")
    return columns


def _choose_fields(
    store: Store, table: TableFile, path: Path, config: ColumnsConfig, key_columns: Sequence[str]
) -> pa.Schema:
    """Return the columns to join, in the types of the store if it has them already."""
    reserved = BASE_COLUMNS | set(EMBED_COLUMNS.names)
    available_names = [name for name in table.columns if name not in key_columns and table.columns.count(name) == 1]
    available = infer_schema(path, table, available_names)
    stored = {item.name: item for item in user_columns(store)}
    chosen = choose_columns(config.columns or available.names, available, str(path))
    fields = []
    for item in chosen:
        is_possible = is_scalar(item.type) and is_column_name(item.name) and item.name not in reserved
        is_filled_by_embed = item.name in stored and not is_joined(stored[item.name])
        if is_possible and not is_filled_by_embed:
            fields.append(stored.get(item.name, item).remove_metadata())
        elif config.columns:
            reason = "zebra embed fills it" if is_filled_by_embed else "a store cannot have one of this name or type"
            raise ConfigError(f"cannot join the column {item.name!r} of {path}: {reason}. Rename it in the table")
    if not fields:
        raise ConfigError(f"{path} has no column to join besides those that zebra embed fills. Add one")
    return pa.schema(fields)


def _match_rows(
    store: Store, table: TableFile, path: Path, schema: pa.Schema, on: str, key_column: str
) -> tuple[JoinResult, dict[str, Mapping[str, Any]]]:
    """Return the values of each image by its id, and the counts of the other rows."""
    join, values = JoinResult(tuple(schema.names), on), dict[str, Mapping[str, Any]]()
    find_ids = _IdFinder(store) if on == "id" else _PathFinder(store, path.parent)
    require_distinct(path, table.columns, [key_column, *schema.names])
    for line, row in table.read([key_column, *schema.names]):
        place = f"line {line}"
        if isinstance(row, BadRow):
            join.count_unmatched(row.reason, place)
            continue
        key = row.get(key_column)
        if not isinstance(key, str) or not key:
            join.count_unmatched(f"no {on}", place)
            continue
        try:
            cells = {item.name: convert_cell(row.get(item.name), item) for item in schema}
            ids = find_ids(key)
        except BadSample as bad:
            join.count_unmatched(bad.reason, f"{place} ({bad.detail or key})")
            continue
        if values.keys() & ids:
            join.count_unmatched(f"{on} of an earlier row", f"{place} ({key})")
            continue
        values |= dict.fromkeys(ids, cells)
    return join, values


class _IdFinder:
    """Finds rows by id."""

    def __init__(self, store: Store) -> None:
        self._ids = {id for batch in store.scan(["id"]) for id in batch["id"].to_pylist()}

    def __call__(self, key: str) -> list[str]:
        """Return the id; raise BadSample if the store does not have it."""
        if key not in self._ids:
            raise BadSample("no image with this id", "", key)
        return [key]


class _PathFinder:
    """Finds rows by the path of their image."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._folder = folder.resolve()
        self._ids: dict[str, list[str]] = defaultdict(list)
        self._paths: dict[str, set[str]] = defaultdict(set)
        names = [name for name in ("id", "path", "location", "source") if name in store.schema.names]
        for batch in store.scan(names):
            for row in batch.to_pylist():
                path = image_path(row)
                self._ids[path].append(row["id"])
                for alias in _iter_aliases(row):
                    self._paths[alias].add(path)

    def __call__(self, key: str) -> list[str]:
        """Return the ids of all rows of an image; raise BadSample if there is none, or the path is ambiguous."""
        key = escape_unencodable(key)
        path = os.path.normpath(self._folder / key)
        if path in self._ids:
            return self._ids[path]
        paths = self._paths.get(key) or self._paths.get(os.path.normpath(key), set())
        if len(paths) > 1:
            raise BadSample("path of several images", "", key)
        if not paths:
            raise BadSample("no image at this path", "", key)
        return self._ids[next(iter(paths))]


def _iter_aliases(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield shorter paths of an image: below the folder of the dataset, and in its shard."""
    path = image_path(row)
    yield path
    yield path_in_dataset(row)
    if path != row["path"]:
        yield f"{Path(row['path']).name}{path.removeprefix(row['path'])}"
