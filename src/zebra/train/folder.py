"""The run folder: a path and a config in; where everything lies, and whether this run is new, begun or done."""

from pathlib import Path
from typing import Literal

from zebra.config.files import read_config, write_config
from zebra.config.structure import differences, unstructure
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError
from zebra.train.checkpoint import list_checkpoints

# Settings that may change between the parts of one run: they do not touch what is learned. The data may move;
# that it is the same data is checked by its digest.
FREE = frozenset(
    (
        "out",
        "data",
        "workers",
        "checkpoint_every",
        "keep_checkpoints",
        "checks",
        "check_every",
        "check_samples",
        "log",
    )
)

Claim = Literal["new", "begun", "finished"]


class RunFolder:
    """Names everything a run writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.tokenizer = path / "tokenizer.json"
        self.journal = path / "journal.jsonl"
        self.skipped = path / "skipped.jsonl"
        self.data = path / "data.json"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.metrics = path / "metrics.json"
        self.report = path / "report.html"

    def claim(self, config: TrainConfig, resume: str) -> Claim:
        """Decide what is to be done here, and write `config.yaml` for a new run. Nothing is ever deleted.

        Raises:
            ConfigError: The folder holds another run, other files of these names, or, with `resume="never"`,
                anything at all.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path} is a file; name a folder")
        if resume == "never" and self.path.exists() and any(self.path.iterdir()):
            raise ConfigError(f"--out {self.path} is not empty and --resume is never; name another folder")
        finished = (self.model / "MANIFEST.json").is_file()
        if self.config.is_file() and (finished or list_checkpoints(self.checkpoints)):
            changed = [
                line
                for line in differences(unstructure(read_config(self.config)), unstructure(config))
                if line.split(":")[0].split(".")[0] not in FREE
            ]
            if changed:
                raise ConfigError(
                    f"{self.path} holds a run with other settings:\n  "
                    + "\n  ".join(changed)
                    + "\nName another --out, or repeat the run's own settings to continue it."
                )
            return "finished" if finished else "begun"
        if self.config.is_file():  # a run that got nowhere: there is nothing to protect, start it anew
            write_config(self.config, config)
            return "new"
        taken = [p.name for p in vars(self).values() if p not in (self.path, self.report) and p.exists()]
        if taken:
            raise ConfigError(
                f"{self.path} is not a run of zebra (no config.yaml) but holds {', '.join(sorted(taken))}, which a "
                "run would overwrite; name another --out"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_config(self.config, config)
        return "new"
