"""Settings of `zebra push`."""

import re
from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError

PushFormat = Literal["zebra", "transformers", "open_clip", "sentence-transformers"]
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class PushConfig:
    """Settings for uploading one model to the hub."""

    model: str
    """A model in any layout that `zebra.load` reads."""
    repo: str
    """The repository on the hub, "org/name"; created if it does not exist."""
    format: PushFormat | None = None
    """Convert the model to this layout first, so that the other library opens it by name; by default it stays as it
    is."""
    private: bool = False
    """Create a private repository."""
    license: str | None = None
    """Identifier of the license on the hub, such as mit or apache-2.0; without one, nobody else may use the model."""
    scores: tuple[str, ...] = ()
    """Output directories of `zebra evaluate`, whose scores go into the model card."""
    replace: bool = False
    """Replace another model in the repository; its history keeps the old one."""

    def __post_init__(self) -> None:
        if self.license is not None and not _LICENSE.fullmatch(self.license):
            raise ConfigError(
                f"--license is {self.license!r}; the hub's identifiers have lower-case letters, digits, '.', '+' and "
                "'-', such as mit, apache-2.0 or cc-by-4.0"
            )
