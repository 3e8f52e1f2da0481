"""Errors of MATLAB files."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zebra.errors import DataError


@contextmanager
def report_damaged_matlab(path: Path) -> Iterator[None]:
    """Raise a DataError that names the file if SciPy cannot read it, or if a variable is missing."""
    from scipy.io.matlab import MatReadError

    try:
        yield
    # What scipy.io.loadmat raises for damaged bytes, a newer version of the format, and other variables.
    except (MatReadError, NotImplementedError, OSError, LookupError, ValueError, TypeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Download it again") from error
