"""Settings of `zebra human`."""

from dataclasses import dataclass

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class HumanConfig:
    """A quiz for one person: dataset, file of answers and number of examples."""

    dataset: str
    """A CLIP_benchmark folder; the questions are the images of its test split."""
    out: str
    """The CSV file of answers, created if missing. New answers are appended; several people can share one file."""
    person: str
    """Who answers: a name or number that is unique in the file."""
    shots: int = 0
    """Examples of each class to show first; the paper uses 0, 1 and 2."""
    seed: int = 0
    """Seed of the order of the questions and of the choice of examples."""

    def __post_init__(self) -> None:
        if not self.person.strip():
            raise ConfigError("--person is empty. Give each person a unique name or number.")
        if self.shots < 0:
            raise ConfigError(f"--shots must be 0 or more; got {self.shots}. The paper uses 0, 1 and 2.")
