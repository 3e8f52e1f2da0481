"""What a store remembers of the model that filled it, to and from the metadata of an Arrow schema."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

from zebra.errors import StoreError

FORMAT_VERSION = 1
"""Raised whenever an older zebra would read a store wrongly."""
SCHEMA_METADATA_KEY = b"zebra"
"""Of the schema's metadata; the value is JSON."""


@dataclass(frozen=True, slots=True)
class StoreMetadata:
    """What the vectors of a store have in common."""

    fingerprint: str
    """Of the model: vectors of two models cannot be compared, so a store holds those of one."""
    model: str
    """Where it was loaded from: a path, or hf:org/name."""
    embed_dim: int
    """Size E of a vector."""
    precision: str
    """The model computed in, to begin with: fp32, bf16 or int8. Those of one model may be mixed."""
    dtype: Literal["float16", "float32"]
    """Vectors are kept as."""
    format: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not self.fingerprint:
            raise StoreError(
                "a store needs the fingerprint of its model, and this one has none: save it to a folder and load it "
                "from there"
            )
        if self.embed_dim < 1 or self.dtype not in ("float16", "float32"):
            raise StoreError(
                f"a store cannot hold vectors of {self.embed_dim} × {self.dtype}; embed_dim is at least 1, dtype "
                "float16 or float32"
            )

    def to_schema_metadata(self) -> dict[bytes, bytes]:
        """Return what goes into a schema."""
        return {SCHEMA_METADATA_KEY: json.dumps(asdict(self)).encode()}


def read_store_metadata(schema_metadata: Mapping[bytes, bytes] | None, path: str) -> StoreMetadata:
    """Read the facts back from a schema's metadata.

    Raises:
        StoreError: There are none, or a newer zebra wrote them.
    """
    try:
        held = json.loads((schema_metadata or {})[SCHEMA_METADATA_KEY])
        newer = int(held["format"]) > FORMAT_VERSION
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} is a table, but not one of zebra: its schema has no facts about a model. Name a store made by "
            "zebra embed"
        ) from error
    if newer:
        raise StoreError(
            f"{path} was written by a newer zebra (format {held['format']}, this one reads up to {FORMAT_VERSION}); run: pip "
            "install --upgrade zebra-clip"
        )
    return StoreMetadata(**held)


def require_same_model(metadata: StoreMetadata, fingerprint: str, path: str) -> None:
    """Refuse vectors of another model.

    Raises:
        StoreError: The message names both fingerprints.
    """
    if fingerprint != metadata.fingerprint:
        raise StoreError(
            f"{path} holds vectors of the model {metadata.fingerprint} ({metadata.model}); those of {fingerprint} cannot be "
            "compared with them. Use that model, or another store for this one"
        )


def find_store_metadata(schema: pa.Schema, path: str) -> StoreMetadata | None:
    """Read the facts that rows carry; None if they carry none."""
    metadata = schema.metadata
    return read_store_metadata(metadata, path) if metadata and SCHEMA_METADATA_KEY in metadata else None
