"""Write results per image into a column of a store."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from zebra.embed.columns import JOINED_KEY, is_joined
from zebra.errors import ConfigError
from zebra.store import Store
from zebra.store.schema import is_column_name


def require_result_column(store: Store, name: str, type: pa.DataType) -> None:
    """Check that results can be written to a column.

    Args:
        name: A new column, or one that results or a table were written to before. "" is accepted: no column.

    Raises:
        ConfigError: The store cannot have a column of this name, it is filled by `zebra embed`, or has another type.
    """
    if not name:
        return
    if not is_column_name(name):
        raise ConfigError(
            f"--column {name!r} is no name for a column: it starts with an underscore, or contains a dot or backquote. "
            "Use another name"
        )
    if name not in store.schema.names:
        return
    field = store.schema.field(name)
    if not is_joined(field):
        raise ConfigError(f"zebra embed fills the column {name!r} of {store.path}. Use another --column")
    if field.type != type:
        raise ConfigError(
            f"the column {name!r} of {store.path} holds {field.type}, and the results are {type}. Use another "
            f"--column, or remove it first: zebra columns {store.path} --drop {name}"
        )


def write_result_column(store: Store, name: str, ids: Sequence[str], values: pa.Array) -> None:
    """Set a column of some rows, and clear it in the others, so that no results of an earlier run remain.

    Args:
        name: A column that `require_result_column` accepts.
        values: A value per id.

    Raises:
        StoreError: The disk is full, or another process is writing.
    """
    id_array = pa.array(ids, pa.string())
    if name in store.schema.names:
        all_ids = pa.chunked_array([batch["id"] for batch in store.scan(["id"])], pa.string())
        other_ids = all_ids.filter(pc.invert(pc.is_in(all_ids, id_array)))
        id_array = pa.concat_arrays([id_array, *other_ids.chunks])
        values = pa.concat_arrays([values, pa.nulls(len(other_ids), values.type)])
    else:
        store.add_columns(pa.schema([pa.field(name, values.type, metadata={JOINED_KEY: b"true"})]))
    if len(id_array):
        store.set_values(pa.table({"id": id_array, name: values}))
