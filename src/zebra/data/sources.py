"""A path in, a source of records out: a folder of images, a table, or tar shards, told apart by what is there."""

import difflib
import itertools
import re
from pathlib import Path
from typing import Protocol

from zebra.config.data import DataConfig
from zebra.data.folders import IMAGE_SUFFIXES, FolderSource
from zebra.data.rows import FORMATS
from zebra.data.shards import ShardSource
from zebra.data.tables import TableSource
from zebra.errors import DataError
from zebra.values import Record

LAYOUTS = (
    "a folder of images with same-name .txt captions, a .csv, .tsv, .jsonl or .parquet table, a folder of .tar shards, "
    "one .tar, or a pattern like shards/{00000..00012}.tar"
)


class Source(Protocol):
    """Samples of one data set, good and bad, at positions 0 … len - 1; the order never changes by itself."""

    @property
    def name(self) -> str:
        """The path as given."""

    @property
    def digest(self) -> str:
        """A sha256 in hex that changes when the data changes."""

    def __len__(self) -> int:
        """Return how many samples were found, usable or not."""

    def read(self, index: int) -> Record:
        """Read one sample; BadSample if it cannot be used."""


def open_source(path: str | Path, config: DataConfig) -> Source:
    """Open captioned images of any layout.

    Args:
        path: A folder of images with same-name .txt captions; a .csv, .tsv, .jsonl or .parquet table; a folder of .tar
            shards, one .tar, or a pattern such as `shards/{00000..00012}.tar`.

    Raises:
        DataError: Nothing is there, nothing usable is in it, or the table or a shard is damaged.
    """
    source = _open(str(path), config)
    if not len(source):
        raise DataError(f"{path} holds no samples; give {LAYOUTS}")
    return source


def _open(name: str, config: DataConfig) -> Source:
    path = Path(name).expanduser()
    if not path.exists():
        shards = expand_braces(str(path))
        if len(shards) > 1:
            return ShardSource(_all_there(name, shards), name)
        raise DataError(f"there is nothing at {path.absolute()}{_sibling(path)}")
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        return ShardSource(shards, name) if shards else _folder(path)
    if path.suffix.lower() == ".tar":
        return ShardSource([path], name)
    if path.suffix.lower() in FORMATS:
        return TableSource(path, config)
    raise DataError(f"{path} ends in {path.suffix or 'no suffix'}, which is no known layout; give {LAYOUTS}")


def _folder(path: Path) -> FolderSource:
    source = FolderSource(path)
    if source.has_images():
        return source
    inside = sorted(child.name for child in path.iterdir())
    usable = [n for n in inside if Path(n).suffix.lower() in FORMATS or any((path / n).glob("*.tar"))]
    if not inside:
        raise DataError(f"the folder {path.absolute()} is empty; give {LAYOUTS}")
    advice = f"did you mean {path / usable[0]}?" if usable else f"give {LAYOUTS}"
    raise DataError(
        f"no images ({', '.join(IMAGE_SUFFIXES)}) and no .tar shards in the folder {path.absolute()}; "
        f"it holds {', '.join(inside[:5])}{', …' if len(inside) > 5 else ''}; {advice}"
    )


def expand_braces(pattern: str) -> list[Path]:
    """List what a pattern with ranges or choices in braces stands for.

    >>> [str(path) for path in expand_braces("{train,more}/{008..010}.tar")][:4]
    ['train/008.tar', 'train/009.tar', 'train/010.tar', 'more/008.tar']
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    return [Path("".join(chosen)) for chosen in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    limits = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if not limits:
        return inside.split(",")
    return [f"{number:0{len(limits[1])}d}" for number in range(int(limits[1]), int(limits[2]) + 1)]


def _all_there(pattern: str, shards: list[Path]) -> list[Path]:
    missing = [path for path in shards if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(shards)} shards of {pattern} are missing, first {missing[0].absolute()}; "
            "download them, or name only those that are there"
        )
    return shards


def _sibling(path: Path) -> str:
    """Point to what may have been meant."""
    names = [child.name for child in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else f"; give {LAYOUTS}"
