"""Description of a curated set in Croissant 1.0 (JSON-LD of MLCommons)."""

from typing import Any

import pyarrow as pa

CROISSANT_FILE = "croissant.json"
CROISSANT_VERSION = "http://mlcommons.org/croissant/1.0"
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
"""Terms of Croissant's vocabulary in its context."""


def describe_set(name: str, description: str, schema: pa.Schema, *, has_splits: bool) -> dict[str, Any]:
    """Return the description of a set of tar shards with a table of the images beside each.

    Args:
        schema: Columns of the tables; `key` is the name of an image in its shard.
        has_splits: Whether the shards are in a folder per split.
    """
    folder = "*/" if has_splits else ""
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": CROISSANT_VERSION,
        "name": name,
        "description": description,
        "distribution": [
            _file_set("shards", "images with their captions", "application/x-tar", f"{folder}[0-9]*.tar"),
            _file_set("tables", "a row per image of a shard", "application/x-parquet", f"{folder}[0-9]*.parquet"),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "key": {"@id": "images/key"},
                "field": [_field(column) for column in schema],
            }
        ],
    }


def _context() -> dict[str, Any]:
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
    } | {term: f"cr:{term}" for term in _TERMS}


def _file_set(name: str, description: str, media_type: str, pattern: str) -> dict[str, str]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        "encodingFormat": media_type,
        "includes": pattern,
    }


def _field(column: pa.Field) -> dict[str, Any]:
    is_list = pa.types.is_list(column.type)
    field = {
        "@type": "cr:Field",
        "@id": f"images/{column.name}",
        "name": column.name,
        "dataType": _data_type(column.type.value_type if is_list else column.type),
        "source": {"fileSet": {"@id": "tables"}, "extract": {"column": column.name}},
    }
    return field | ({"repeated": True} if is_list else {})


def _data_type(data_type: pa.DataType) -> str:
    if pa.types.is_boolean(data_type):
        return "sc:Boolean"
    if pa.types.is_integer(data_type):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(data_type) else "sc:Text"
