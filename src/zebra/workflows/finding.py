"""One line of the result of `zebra doctor`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the result of `zebra doctor`."""

    name: str
    detail: str
    is_ok: bool = True
