"""Tables that img2dataset and `zebra curate` write beside tar shards."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.curate.pools.link_tables import UID_COLUMN, name_other_columns, parse_uid, plain_type, unify_schemas
from zebra.data.locations import file_stamp
from zebra.data.shards import ShardSource
from zebra.data.sources import Source
from zebra.errors import DataError

KEY_COLUMN = "key"
MAX_OPEN_TABLES = 4


class ShardTables:
    """Columns that tables have for the samples of their shards; captions are those of the shards."""

    def __init__(self, tables: Mapping[str, Path]) -> None:
        """Read the schemas.

        Args:
            tables: Name of a shard → its table.

        Raises:
            DataError: A table is damaged.
        """
        self._tables: dict[str, tuple[Path, dict[str, str]]] = {}
        schemas = []
        for shard, path in tables.items():
            schema = _read_schema(path)
            if KEY_COLUMN in schema.names:
                others = name_other_columns(schema.names, {KEY_COLUMN, UID_COLUMN})
                schemas.append(pa.schema([(name, plain_type(schema.field(old).type)) for name, old in others.items()]))
                uid = {UID_COLUMN: UID_COLUMN} if UID_COLUMN in schema.names else {}
                self._tables[shard] = (path, others | uid)
        self.schema = unify_schemas(schemas)
        """Types of the columns, without uid."""
        self._table_schema = self.schema.append(pa.field(UID_COLUMN, pa.string()))
        self._read = lru_cache(MAX_OPEN_TABLES)(self._read_table)

    def __reduce__(self) -> tuple[type["ShardTables"], tuple[Mapping[str, Path]]]:
        """Copy to another process, which reads the tables itself."""
        return ShardTables, ({shard: path for shard, (path, _) in self._tables.items()},)

    @property
    def stamp(self) -> str:
        """Return what changes with the contents of the tables."""
        return "\n".join(f"{shard} {file_stamp(path)}" for shard, (path, _) in self._tables.items())

    def find(self, sample_ids: Sequence[str]) -> tuple[list[bytes | None], pa.Table]:
        """Return the uids and the columns of samples; nulls where a table has none for a sample.

        Args:
            sample_ids: Shard and key, separated by a slash.
        """
        uids: list[bytes | None] = []
        parts = []
        for shard, group in groupby(sample_ids, self._find_shard):
            keys = [sample_id.removeprefix(f"{shard}/") for sample_id in group]
            row_by_key, table = self._read(shard) if shard else ({}, self._table_schema.empty_table())
            rows = table.take(pa.array([row_by_key.get(key) for key in keys], pa.int64()))
            uids += [parse_uid(uid) for uid in rows[UID_COLUMN].to_pylist()]
            parts.append(rows.select(self.schema.names))
        return uids, pa.concat_tables([self.schema.empty_table(), *parts]).combine_chunks()

    def _find_shard(self, sample_id: str) -> str:
        """Return the shard of a sample if it has a table, otherwise an empty text."""
        prefixes = (sample_id[: match.start()] for match in re.finditer("/", sample_id))
        return next((prefix for prefix in prefixes if prefix in self._tables), "")

    def _read_table(self, shard: str) -> tuple[Mapping[str, int], pa.Table]:
        """Return the rows by key, and all columns in the types of the pool."""
        path, others = self._tables[shard]
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise _damage_error(path, error) from error
        columns = [_cast(table, others.get(field.name), field.type) for field in self._table_schema]
        row_by_key = {str(key): row for row, key in enumerate(table[KEY_COLUMN].to_pylist())}
        return row_by_key, pa.table(columns, schema=self._table_schema)


def find_shard_tables(source: Source) -> ShardTables | None:
    """Return the tables that lie beside local shards; None if there are none."""
    if not isinstance(source, ShardSource):
        return None
    tables = {shard: path.with_suffix(".parquet") for shard, path in source.local_shards.items()}
    existing = {shard: path for shard, path in tables.items() if path.is_file()}
    return ShardTables(existing) if existing else None


def _read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise _damage_error(path, error) from error


def _damage_error(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is damaged ({error}). Write it again, or delete it to do without its columns")


def _cast(table: pa.Table, column: str | None, data_type: pa.DataType) -> pa.ChunkedArray | pa.Array:
    try:
        return pa.nulls(len(table), data_type) if column is None else table[column].cast(data_type)
    except pa.ArrowException:
        return pa.nulls(len(table), data_type)
