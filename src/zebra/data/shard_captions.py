"""Captions and groups of samples in shards, from .txt and .json members."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zebra.config.data import DataConfig
from zebra.data.columns import caption_probabilities, count_captions, parse_captions, parse_group
from zebra.data.folders import decode_caption
from zebra.errors import BadSample

TXT_COLUMN = "txt"
"""Name of the .txt member as a caption column; all others are keys of the .json member."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What belongs to an image."""

    captions: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    """As in `Record.caption_probabilities`."""
    group: str | None = None


@dataclass(frozen=True, slots=True)
class TextMembers:
    """Which members of a sample have its captions and its group."""

    config: DataConfig

    @property
    def json_columns(self) -> tuple[str, ...]:
        """The keys of the .json members that the config names."""
        groups = () if self.config.group_column is None else (self.config.group_column,)
        return tuple(dict.fromkeys((*(name for name in self.config.caption_columns if name != TXT_COLUMN), *groups)))

    def list_members(self, members: Mapping[str, object]) -> tuple[str, ...]:
        """Return the names of the members to read, of those that a sample has."""
        names = [TXT_COLUMN] if TXT_COLUMN in self.config.caption_columns else []
        if not self.config.caption_columns:
            names += [name for name in CAPTION_PARSERS if name in members][:1]
        if self.json_columns:
            names.append("json")
        return tuple(name for name in dict.fromkeys(names) if name in members)

    def parse(self, data_by_member: Mapping[str, bytes], where: str) -> Texts:
        """Parse the members that `list_members` returns; there may be no captions among them.

        Args:
            data_by_member: Their bytes.
            where: The sample, for messages.

        Raises:
            BadSample: caption is not UTF-8, empty caption, caption is not text, broken JSON, or group is not text.
        """
        try:
            row = parse_json_object(data_by_member["json"], where) if self._reads_json(data_by_member) else {}
            group = None if self.config.group_column is None else parse_group(row, self.config.group_column)
            if not self.config.caption_columns:
                return Texts(_parse_first_member(data_by_member, where), group=group)
            txt = data_by_member.get(TXT_COLUMN, b"")
            row = {**row, TXT_COLUMN: decode_caption(txt, where) if txt.strip() else None}
            counts = count_captions(row, self.config.caption_columns)
            captions = parse_captions(row, self.config.caption_columns) if any(counts) else ()
        except BadSample as bad:
            raise BadSample(bad.reason, where, bad.detail) from None
        return Texts(tuple(captions), caption_probabilities(counts, self.config.caption_weights), group)

    def _reads_json(self, data_by_member: Mapping[str, bytes]) -> bool:
        return bool(self.json_columns) and "json" in data_by_member


def _parse_first_member(data_by_member: Mapping[str, bytes], where: str) -> tuple[str, ...]:
    name = next((name for name in CAPTION_PARSERS if name in data_by_member), None)
    return () if name is None else CAPTION_PARSERS[name](data_by_member[name], where)


def _parse_txt_captions(data: bytes, where: str) -> tuple[str, ...]:
    return (decode_caption(data, where),)


def parse_json_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse a `.json` member; a value that is no object has no keys."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSample("broken JSON", where, str(error)) from error
    return value if isinstance(value, dict) else {}


def _parse_caption_list(data: bytes, where: str) -> tuple[str, ...]:
    """Parse the captions of a sample that has several, as `zebra curate` writes them."""
    try:
        captions = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSample("broken JSON", where, f".captions.json: {error}") from error
    if not isinstance(captions, list) or not captions or not all(isinstance(caption, str) for caption in captions):
        raise BadSample("caption is not text", where, ".captions.json is no list of texts")
    return tuple(decode_caption(caption.encode("utf-8", "surrogatepass"), where) for caption in captions)


def _parse_json_captions(data: bytes, where: str) -> tuple[str, ...]:
    caption = parse_json_object(data, where).get("caption")
    if caption is None:
        return ()
    if not isinstance(caption, str):
        raise BadSample("caption is not text", where, f"{str(caption)[:40]!r} in .json")
    return (decode_caption(caption.encode("utf-8", "surrogatepass"), where),)


CAPTION_PARSERS: Mapping[str, Callable[[bytes, str], tuple[str, ...]]] = {
    "captions.json": _parse_caption_list,
    "txt": _parse_txt_captions,
    "json": _parse_json_captions,
}
"""Member → parser of its captions, unless the config names columns. The first member that a sample has is used."""
