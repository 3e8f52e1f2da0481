"""Metadata of a store: its model and vector format, kept in the Arrow schema."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

from zebra.errors import StoreError

FORMAT_VERSION = 1
"""Raised when an older zebra would misread a store."""
SCHEMA_METADATA_KEY = b"zebra"
"""Key in the schema's metadata; the value is JSON."""


@dataclass(frozen=True, slots=True)
class StoreMetadata:
    """Model and vector format of a store."""

    fingerprint: str
    """Fingerprint of the model. Vectors of two models are not comparable, so a store holds those of one."""
    model: str
    """Path of the model, or hf:org/name."""
    embed_dim: int
    """Vector size E."""
    precision: str
    """Precision of the first run: fp32, bf16 or int8. A store may mix precisions of one model."""
    dtype: Literal["float16", "float32"]
    """Data type of the stored vectors."""
    format: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not self.fingerprint:
            raise StoreError(
                "the model has no fingerprint, and a store needs one. Save the model to a folder and load it from there"
            )
        if self.embed_dim < 1 or self.dtype not in ("float16", "float32"):
            raise StoreError(
                f"a store cannot hold vectors of {self.embed_dim} × {self.dtype}. embed_dim must be at least 1, and "
                "dtype float16 or float32"
            )

    @property
    def dimensions(self) -> int | None:
        """Size of the vectors if they are the first components of the model's; None if they are all."""
        return self.embed_dim if "-" in self.fingerprint else None

    def to_schema_metadata(self) -> dict[bytes, bytes]:
        """Return the metadata of an Arrow schema."""
        return {SCHEMA_METADATA_KEY: json.dumps(asdict(self)).encode()}


def read_store_metadata(schema_metadata: Mapping[bytes, bytes] | None, path: str) -> StoreMetadata:
    """Parse the metadata of an Arrow schema.

    Raises:
        StoreError: There is none, or a newer zebra wrote it.
    """
    try:
        values = json.loads((schema_metadata or {})[SCHEMA_METADATA_KEY])
        is_newer = int(values["format"]) > FORMAT_VERSION
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} is not a zebra store: its table has no zebra metadata. Name a store that zebra embed wrote"
        ) from error
    if is_newer:
        raise StoreError(
            f"{path} was written by a newer zebra (format {values['format']}; this one reads up to {FORMAT_VERSION}). "
            "Run: pip install --upgrade zebra-clip"
        )
    return StoreMetadata(**values)


def require_same_model(metadata: StoreMetadata, fingerprint: str, path: str) -> None:
    """Check that vectors come from the model of the store.

    Raises:
        StoreError: The fingerprints differ.
    """
    if fingerprint != metadata.fingerprint:
        raise StoreError(
            f"{path} holds vectors of the model {metadata.fingerprint} ({metadata.model}), which are not comparable "
            f"with those of {fingerprint}. Use that model, or another store"
        )


def find_store_metadata(schema: pa.Schema, path: str) -> StoreMetadata | None:
    """Return the metadata in a schema, or None if it has none."""
    metadata = schema.metadata
    return read_store_metadata(metadata, path) if metadata and SCHEMA_METADATA_KEY in metadata else None
