"""Every exception zebra raises on purpose.

    ZebraError                     anything below; what the command line shows as one message
    ├── ConfigError(ValueError)    a knob, flag, recipe or argument that cannot mean anything
    ├── DataError(ValueError)      captioned images or a data set that cannot be read as asked
    │   └── BadSample              one sample that cannot be used: skipped, counted by reason
    ├── ShapeError(ValueError)     tensors that do not fit each other
    ├── WeightsError(RuntimeError) a model folder, checkpoint or tokenizer that is not whole
    ├── StoreError(RuntimeError)   a store that is missing, damaged, busy or of another model
    ├── CheckpointError(OSError)   a checkpoint that could not be written; the one before it is untouched
    ├── DivergedError(ArithmeticError)  a loss or gradient that is no longer a number
    ├── RankError(RuntimeError)    a process of a run that is silent or gone; the message names it
    ├── DownloadError(OSError)     a model of the hub that can be had neither there nor from the cache
    └── MissingExtra(ImportError)  an optional package that is not installed

Each message says what happened, where, and how to mend it.
"""

import difflib
from collections.abc import Iterable


class ZebraError(Exception):
    """The root: catch this to catch everything zebra raises on purpose."""


class ConfigError(ZebraError, ValueError):
    """A setting is unknown, has the wrong type or contradicts another one."""


class DataError(ZebraError, ValueError):
    """A data set is missing, damaged or not in the layout it claims."""


class BadSample(DataError):
    """One sample cannot be used; `reason` is a short phrase that skips are counted by.

    >>> BadSample("empty file", "cats/tom.jpg", "0 bytes").reason
    'empty file'
    """

    def __init__(self, reason: str, location: str, detail: str = "") -> None:
        super().__init__(f"{location}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.location = location
        self.detail = detail

    def __reduce__(self) -> tuple[type["BadSample"], tuple[str, str, str]]:
        """Keep the three parts when a worker process sends the error home."""
        return BadSample, (self.reason, self.location, self.detail)


class ShapeError(ZebraError, ValueError):
    """Two tensors do not fit: the message names both shapes."""


class WeightsError(ZebraError, RuntimeError):
    """A model folder, checkpoint or tokenizer is incomplete, damaged or of another kind."""


class DownloadError(ZebraError, OSError):
    """The hub, or what it holds, cannot be reached, and the cache does not have it."""


class StoreError(ZebraError, RuntimeError):
    """A store is missing, damaged, busy, of another model, or cannot take what it was given."""


class CheckpointError(ZebraError, OSError):
    """A checkpoint cannot be written, for want of room for instance; the one before it is untouched."""


class DivergenceError(ZebraError, ArithmeticError):
    """Training produced NaN or infinity; the weights were not updated with it."""


class RankError(ZebraError, RuntimeError):
    """Processes that train together have lost one of them."""


class MissingExtra(ZebraError, ImportError):
    """An optional package is needed; the message holds the pip command."""

    def __init__(self, package: str, purpose: str, extra: str | None = None) -> None:
        target = f'"zebra-clip[{extra}]"' if extra else package
        super().__init__(f"{purpose} needs the package {package!r}; run: pip install {target}")


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean …?' for the closest known name, or the list of what is known.

    >>> nearest("learing_rate", ["learning_rate", "seed"])
    " Did you mean 'learning_rate'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(names)}."
