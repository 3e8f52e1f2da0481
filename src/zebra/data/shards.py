"""WebDataset tar shards: read sample by sample at any position, and written."""

import io
import json
import os
import re
import tarfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Self

from zebra.data.folders import caption_text
from zebra.data.tars import Sample, TarIndex
from zebra.errors import BadSample, DataError
from zebra.values import Record

IMAGE_FIELDS = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
OPEN_SHARDS = 64
"""Shards that one process keeps open; each takes two file descriptors."""


class ShardSource:
    """The samples of tar shards, in natural order of the shards' names: 2.tar before 10.tar."""

    def __init__(self, shards: Sequence[Path], name: str) -> None:
        self.name = name
        paths = sorted(shards, key=lambda path: _natural(str(path)))
        self.shards = [_checked(TarIndex(path)) for path in paths]
        self._titles = _titles(paths)
        self._ends = list(accumulate(len(shard) for shard in self.shards))
        digests = (f"{title} {s.digest}\n" for title, s in zip(self._titles, self.shards, strict=True))
        self.digest = sha256("".join(digests).encode("utf-8", "surrogateescape")).hexdigest()
        """sha256 hex over the index of every shard: names, places and labels."""
        self._open: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, index: int) -> Record:
        """Read one sample: image, caption (.txt, else the caption in .json) and label (.cls).

        Raises:
            BadSample: missing image, missing caption (and no label either), caption is not UTF-8, empty caption,
                caption is not text, duplicate field, label is not a number, or broken JSON.
            DataError: The shard changed since it was indexed.
        """
        number = bisect_right(self._ends, index)
        shard = self._use(number)
        sample = shard.sample(index - (self._ends[number - 1] if number else 0))
        where = f"{self._titles[number]}/{sample.key}"
        names = ", ".join(f".{suffix}" for suffix in sample.fields)
        if sample.repeated is not None:
            raise BadSample("duplicate field", where, f".{sample.repeated} comes twice")
        suffix = next((name for name in IMAGE_FIELDS if name in sample.fields), None)
        if suffix is None:
            raise BadSample("missing image", where, f"there is {names}")
        if "cls" in sample.fields and sample.label is None:
            raise BadSample("label is not a number", where, "in .cls")
        captions = _captions(shard, sample, where)
        if not captions and sample.label is None:
            raise BadSample("missing caption", where, f"there is {names}")
        return Record(where, shard.read(sample.fields[suffix]), captions, sample.label)

    def highest_labels(self) -> Iterator[tuple[Path, int]]:
        """Yield (shard, largest label) of every shard that has labels."""
        for number, shard in enumerate(self.shards):
            highest = self._use(number).highest_label()
            if highest is not None:
                yield shard.path, highest

    def _use(self, number: int) -> TarIndex:
        """Return a shard, and close the one that rested longest if too many are open."""
        self._open[number] = None
        self._open.move_to_end(number)
        if len(self._open) > OPEN_SHARDS:
            self.shards[self._open.popitem(last=False)[0]].close()
        return self.shards[number]


def _captions(shard: TarIndex, sample: Sample, where: str) -> tuple[str, ...]:
    if "txt" in sample.fields:
        return (caption_text(shard.read(sample.fields["txt"]), where),)
    if "json" in sample.fields:
        return _json_captions(shard.read(sample.fields["json"]), where)
    return ()


def _json_captions(data: bytes, where: str) -> tuple[str, ...]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSample("broken JSON", where, str(error)) from error
    caption = value.get("caption") if isinstance(value, dict) else None
    if caption is None:
        return ()
    if not isinstance(caption, str):
        raise BadSample("caption is not text", where, f"{str(caption)[:40]!r} in .json")
    return (caption_text(caption.encode("utf-8", "surrogatepass"), where),)


def _checked(shard: TarIndex) -> TarIndex:
    """Compare a shard with what img2dataset counted when it wrote it, if it did."""
    path, found = shard.path, len(shard)
    shard.close()
    stats = path.with_name(f"{path.stem}_stats.json")
    if not stats.is_file():
        return shard
    try:
        expected = json.loads(stats.read_bytes())["successes"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{stats} holds no count of successes ({error!r}); mend or delete it") from error
    if expected != found:
        raise DataError(
            f"{path} holds {found} samples, but {stats.name} beside it counts {expected}; "
            "download the shard again, or delete the stats if the shard was edited on purpose"
        )
    return shard


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key under which 2.tar comes before 10.tar."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _titles(paths: Sequence[Path]) -> list[str]:
    """Name shards as briefly as stays unique: below the folder they have in common."""
    if len(paths) < 2:
        return [path.name for path in paths]
    common = os.path.commonpath([path.parent.absolute() for path in paths])
    return [str(path.absolute().relative_to(common)) for path in paths]


class ShardWriter:
    """Write samples as `<prefix>00000.tar`, `<prefix>00001.tar`, …; a context manager.

    A shard takes its name only once it is whole: an interrupted writer leaves no shard that looks complete.
    Neither time nor owner nor path enters the bytes.
    """

    def __init__(
        self, folder: Path, prefix: str = "", samples_per_shard: int = 10_000, digits: int = 5
    ) -> None:
        self.folder = folder
        self.prefix = prefix
        self.samples_per_shard = samples_per_shard
        self.digits = digits
        self.shards: list[Path] = []
        """Shards begun so far; all of them whole once the context is left."""
        self._in_shard = 0
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(keep=kind is None)

    def write(self, key: str, fields: dict[str, bytes]) -> None:
        """Append one sample: a file `<key>.<field>` for every field, in the order given.

        Args:
            key: No dot in its last part: readers split the name there.
            fields: Suffix without a dot ("jpg", "txt", "json", "cls") → content.

        Raises:
            DataError: A key that readers would not get back.
        """
        if not re.fullmatch(r"(.*/)?[^./]+", key):
            raise DataError(f"the sample key {key!r} would not be read back: use a name without dots")
        if self._tar is None or self._in_shard == self.samples_per_shard:
            self._close(keep=True)
            self._tar = self._next_shard()
        for suffix, content in fields.items():
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self._in_shard += 1

    def _next_shard(self) -> tarfile.TarFile:
        path = self.folder / f"{self.prefix}{len(self.shards):0{self.digits}d}.tar"
        self.shards.append(path)
        self._in_shard = 0
        return tarfile.TarFile(_partial(path), "w", format=tarfile.PAX_FORMAT)

    def _close(self, *, keep: bool) -> None:
        if self._tar is None:
            return
        self._tar.close()
        self._tar = None
        if keep:
            _partial(self.shards[-1]).replace(self.shards[-1])
        else:
            _partial(self.shards[-1]).unlink()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
