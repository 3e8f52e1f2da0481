"""What a store remembers of the model that filled it, to and from the metadata of an Arrow schema."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import pyarrow as pa

from zebra.errors import StoreError

FORMAT = 1
"""Raised whenever an older zebra would read a store wrongly."""
KEY = b"zebra"
"""Of the schema's metadata; the value is JSON."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
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
    format: int = FORMAT

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

    def metadata(self) -> dict[bytes, bytes]:
        """Return what goes into a schema."""
        return {KEY: json.dumps(asdict(self)).encode()}


def read_facts(metadata: Mapping[bytes, bytes] | None, where: str) -> StoreFacts:
    """Read the facts back from a schema's metadata.

    Raises:
        StoreError: There are none, or a newer zebra wrote them.
    """
    try:
        held = json.loads((metadata or {})[KEY])
        newer = int(held["format"]) > FORMAT
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{where} is a table, but not one of zebra: its schema has no facts about a model. Name a store made by "
            "zebra embed"
        ) from error
    if newer:
        raise StoreError(
            f"{where} was written by a newer zebra (format {held['format']}, this one reads up to {FORMAT}); run: pip "
            "install --upgrade zebra-clip"
        )
    return StoreFacts(**held)


def require_same_model(facts: StoreFacts, fingerprint: str, where: str) -> None:
    """Refuse vectors of another model.

    Raises:
        StoreError: The message names both fingerprints.
    """
    if fingerprint != facts.fingerprint:
        raise StoreError(
            f"{where} holds vectors of the model {facts.fingerprint} ({facts.model}); those of {fingerprint} cannot be "
            "compared with them. Use that model, or another store for this one"
        )


def facts_of(schema: pa.Schema, where: str) -> StoreFacts | None:
    """Read the facts that rows carry; None if they carry none."""
    metadata = schema.metadata
    return read_facts(metadata, where) if metadata and KEY in metadata else None
