"""The run folder: a path and a config in; where everything lies, and whether this run is new, begun or done."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from zebra.config.files import read_train_config, write_config
from zebra.config.structure import diff_configs
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError
from zebra.train.run_spec import numerics_settings

RunStatus = Literal["new", "begun", "finished"]


class RunDir:
    """Names everything a run writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_path = path / ".lock"
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.tokenizer = path / "tokenizer.json"
        self.log = path / "log.jsonl"
        self.skipped_samples = path / "skipped.jsonl"
        self.sample_counts = path / "data.json"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.adapter = path / "adapter"
        self.metrics = path / "metrics.json"
        self.report = path / "report.html"

    def run_status(self, config: TrainConfig, resume: str) -> RunStatus:
        """Decide what is to be done here. Nothing is written, and nothing is ever deleted.

        A run that has begun is compared with its checkpoint, when that is read (`zebra.train.run_spec`).

        Raises:
            ConfigError: The folder holds another finished run, files of these names that are no run's, or, with
                `resume="never"`, anything at all.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path} is a file; name a folder")
        inside = set(self.path.iterdir()) if self.path.exists() else set()
        if resume == "never" and inside - {self.lock_path}:
            raise ConfigError(f"--out {self.path} is not empty and --resume is never; name another folder")
        finished = (self.model / "MANIFEST.json").is_file()
        if self.config.is_file() and finished:
            changed = diff_configs(
                numerics_settings(read_train_config(self.config)), numerics_settings(config)
            )
            if changed:
                raise ConfigError(
                    f"{self.path} holds a finished run with other settings:\n  "
                    + "\n  ".join(changed)
                    + "\nName another --out."
                )
            return "finished"
        if self.config.is_file():  # one that got nowhere has nothing to protect and starts anew
            return "begun" if self.checkpoints.is_dir() and any(self.checkpoints.iterdir()) else "new"
        taken = [p.name for p in vars(self).values() if p in inside - {self.lock_path, self.report}]
        if taken:
            raise ConfigError(
                f"{self.path} is not a run of zebra (no config.yaml) but holds {', '.join(sorted(taken))}, which a "
                "run would overwrite; name another --out"
            )
        return "new"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process; made if it is not there.

        Raises:
            ConfigError: Another process trains in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock_path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise ConfigError(
                    f"{self.path} is in use by process {file.read() or '?'}; wait for it, or name another --out"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield  # the lock ends with the process, however that ends

    def save_config(self, config: TrainConfig) -> None:
        """Make the folder and write down what the run is about to do."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_config(self.config, config)
