"""Settings of `zebra compare`."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """Runs to compare."""

    runs: tuple[str, ...]
    """At least two directories of `zebra evaluate` or `zebra demo`; the first is compared with each of the others."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise ConfigError(f"a comparison needs at least two runs; got {len(self.runs)}. Name two or more.")
