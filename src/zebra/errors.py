"""The exceptions of zebra.

    ZebraError                          root; the command line prints the message without a traceback
    ├── ConfigError(ValueError)         an invalid setting, flag, recipe or argument
    ├── DataError(ValueError)           a dataset that cannot be read as requested
    │   ├── BadSample                   one unusable sample: skipped, counted by reason
    │   └── MissingSplit                a dataset that has no such split, as opposed to a damaged one
    ├── ShapeError(ValueError)          tensors whose shapes do not match
    ├── WeightsError(RuntimeError)      an incomplete or damaged model folder, checkpoint or tokenizer
    ├── DeviceError(RuntimeError)       a device that computes wrong vectors or has too little memory
    │   └── DeviceLost                  a device that stopped working
    ├── StoreError(RuntimeError)        a store that is missing, damaged, busy or of another model
    ├── CheckpointError(OSError)        a checkpoint that could not be written; the previous one is intact
    ├── DivergenceError(ArithmeticError)  a loss or gradient that is NaN or infinite
    ├── RankError(RuntimeError)         a rank that does not respond or has exited
    ├── DownloadError(OSError)          a hub model that is neither reachable nor cached
    ├── UploadError(OSError)            a model that the hub does not accept
    └── MissingExtra(ImportError)       an optional package that is not installed

Each message says what failed, where, and what to do.
"""

import difflib
import reprlib
from collections.abc import Iterable, Sequence

MAX_NAMES = 40
MAX_NAME_CHARS = 60
"""Limits of a list of names in a message."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100


class ZebraError(Exception):
    """The base class of all exceptions that zebra raises."""

    def __str__(self) -> str:
        """Return the message, which can be printed even if it names a file whose name is not UTF-8."""
        return escape_unencodable(super().__str__())


class ConfigError(ZebraError, ValueError):
    """A setting is unknown, has the wrong type or contradicts another one."""


class DataError(ZebraError, ValueError):
    """A dataset is missing, damaged or not in the expected layout."""


class BadSample(DataError):
    """One sample is unusable; `reason` is a short phrase under which skips are counted.

    >>> BadSample("empty file", "cats/tom.jpg", "0 bytes").reason
    'empty file'
    """

    def __init__(self, reason: str, location: str, detail: str = "") -> None:
        location, detail = escape_unencodable(location), escape_unencodable(detail)
        super().__init__(f"{location}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.location = location
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadSample"], tuple[str, str, str]]:
        """Support pickling, which sends the error from a worker process."""
        return BadSample, (self.reason, self.location, self.detail)


class UnsuitableDataset(DataError):
    """A dataset that a task cannot score, such as one image per class for retrieval of images by images."""


class MissingSplit(DataError):
    """A dataset has no split of this name; a damaged or incomplete split is another DataError."""


class SeveralSplits(DataError):
    """A dataset has several splits, and none was selected."""


class ShapeError(ZebraError, ValueError):
    """The shapes of tensors do not match; the message contains them."""


class WeightsError(ZebraError, RuntimeError):
    """A model folder, checkpoint or tokenizer is incomplete, damaged or of an unexpected kind."""


class DeviceError(ZebraError, RuntimeError):
    """A device computes other vectors than the CPU, cannot run the model, or has too little memory."""


class DeviceLost(DeviceError):
    """A device stopped working; nothing can be computed on it in this process."""


class DownloadError(ZebraError, OSError):
    """A hub model or file cannot be downloaded and is not cached."""


class UploadError(ZebraError, OSError):
    """A model cannot be uploaded: no token, no permission, no network, or another model in the repository."""


class StoreError(ZebraError, RuntimeError):
    """A store is missing, damaged, busy, of another model, or cannot accept the data."""


class CheckpointError(ZebraError, OSError):
    """A checkpoint cannot be written, for example on a full disk; the previous one is intact."""


class DivergenceError(ZebraError, ArithmeticError):
    """Training produced NaN or infinity; the weights were not updated."""


class RankError(ZebraError, RuntimeError):
    """A rank of a distributed run does not respond or has exited."""


class MissingExtra(ZebraError, ImportError):
    """An optional package is missing; the message contains the pip command."""

    def __init__(self, package: str, purpose: str, extra: str | None = None) -> None:
        self.extra = extra
        target = f'"zebra-clip[{extra}]"' if extra else package
        super().__init__(f"{purpose} needs the package {package!r}; run: pip install {target}")


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean …?' with the closest known name, or the list of known names.

    >>> suggest_name("learing_rate", ["learning_rate", "seed"])
    " Did you mean 'learning_rate'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {list_names(names)}."


def list_names(names: Sequence[str]) -> str:
    """Return names of any number and length as one text of bearable length.

    >>> list_names(["path", "caption"])
    'path, caption'
    """
    shown = [_shorten(name) for name in names[:MAX_NAMES]]
    return ", ".join(shown) + (f", … ({len(names) - MAX_NAMES:,} more)" if len(names) > MAX_NAMES else "")


def _shorten(name: str) -> str:
    """Shorten a name, and escape characters that a terminal does not print, such as NUL."""
    if name.isprintable() and len(name) <= MAX_NAME_CHARS:
        return name
    return ascii(name[:MAX_NAME_CHARS]) + "…" * (len(name) > MAX_NAME_CHARS)


def show_value(value: object) -> str:
    """Return `repr(value)`, shortened: values in files may have any size, and YAML lists may contain themselves.

    >>> show_value([[1, 2], "x" * 1000])[:20]
    "[[1, 2], 'xxxxxxxxxx"
    """
    shown: str = _REPR.repr(value)
    return shown


def escape_unencodable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode, such as undecodable bytes of a file name, by escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def untrained_size_error(size: int, embed_dim: int, trained: Sequence[int]) -> ConfigError:
    """Return the error for vectors of a size that a model was not trained for."""
    sizes = f"{', '.join(map(str, (*trained, embed_dim)))}" if trained else f"{embed_dim} only"
    return ConfigError(
        f"the model was not trained for vectors of {size} dimensions, but for {sizes}. Train with "
        f"--objective.dimensions {size}, or search a store by its principal axes: zebra search STORE --pca, and then "
        f"zebra search STORE QUERY --dimensions {size}"
    )
