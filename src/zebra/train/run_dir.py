"""Run directory of a training run: paths, status and lock."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from zebra.config.files import read_train_config
from zebra.config.structure import diff_configs
from zebra.config.train import TrainConfig
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import ConfigError
from zebra.file_lock import lock_folder
from zebra.train.run_spec import numerics_settings, only_length_differs

RunStatus = Literal["new", "resumable", "finished", "extendable"]
"""extendable is a finished run with another `steps` or `epochs`."""


class RunDir:
    """Paths of everything that a run writes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lock_path = self.path / ".lock"
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.tokenizer = self.path / "tokenizer.json"
        self.log = self.path / "log.jsonl"
        self.skipped_samples = self.path / "skipped.jsonl"
        self.skipped_rehearsal = self.path / "skipped-rehearsal.jsonl"
        self.sample_counts = self.path / "data.json"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"
        self.teacher = self.path / "teacher"
        self.similar_samples = self.path / "similar.npz"

    def run_status(
        self, config: TrainConfig, data_digest: str, resume: str, *, accept_changes: bool = False
    ) -> RunStatus:
        """Return whether the directory holds no run, an unfinished run, this run, finished, or a part of it.

        Nothing is changed.

        Settings and data of an unfinished run are compared later, when its checkpoint is read (`zebra.train.run_spec`).

        Raises:
            ConfigError: The directory holds another finished run, or one on other data, files with these names that
                belong to no run, or, with `resume="never"`, any file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path} is a file. Name a directory.")
        entries = set(self.path.iterdir()) if self.path.exists() else set()
        if resume == "never" and entries - {self.lock_path}:
            raise ConfigError(f"--out {self.path} is not empty, which --resume never requires. Name another directory.")
        finished = (self.model / "MANIFEST.json").is_file()
        if self.config.is_file() and finished:
            return self._finished_status(config, data_digest, accept_changes=accept_changes)
        if self.config.is_file():  # a run without a checkpoint has nothing to protect and starts anew
            return "resumable" if self._has_checkpoints() else "new"
        conflicts = [
            p.name
            for p in vars(self).values()
            if p in entries - {self.lock_path, self.report, self.skipped_samples, self.skipped_rehearsal}
        ]
        if conflicts:
            raise ConfigError(
                f"{self.path} has no config.yaml, so it is not a run directory, but a run would overwrite its files "
                f"{', '.join(sorted(conflicts))}. Name another --out."
            )
        return "new"

    def _require_same_data(self, data_digest: str) -> None:
        counts = json.loads(self.sample_counts.read_text(encoding="utf-8")) if self.sample_counts.is_file() else {}
        trained_on = counts.get("digest", data_digest)
        if trained_on != data_digest:
            raise ConfigError(
                f"{self.path} holds a finished run on other data (digest {trained_on[:16]}, not {data_digest[:16]}). "
                f"Name another --out; with --from {self.model}, it starts from the finished model."
            )

    def _finished_status(self, config: TrainConfig, data_digest: str, *, accept_changes: bool) -> RunStatus:
        saved, current = numerics_settings(read_train_config(self.config)), numerics_settings(config)
        changed = diff_configs(saved, current)
        if not changed:
            self._require_same_data(data_digest)
            return "finished"
        if not (accept_changes or only_length_differs(saved, current)):
            raise ConfigError(
                f"{self.path} holds a finished run with other settings:\n  "
                + "\n  ".join(changed)
                + f"\nName another --out; with --from {self.model}, it starts from the finished model. The run "
                "itself can only be extended, by more --steps or --epochs."
            )
        if not self._has_checkpoints():
            raise ConfigError(
                f"{self.path} holds a finished run without checkpoints, so it cannot be extended. Start another run "
                f"from its model: --from {self.model} --out OTHER."
            )
        return "extendable"

    def _has_checkpoints(self) -> bool:
        return self.checkpoints.is_dir() and any(self.checkpoints.iterdir())

    def set_aside_model(self, step: int) -> Path:
        """Rename the model of a finished run, which marks it as finished, before the run is extended."""
        target = self.path / f"model-step-{step:08d}"
        self.model.rename(target)
        return target

    @contextmanager
    def lock(self, group: ProcessGroup = SINGLE_PROCESS) -> Iterator[None]:
        """Create the directory if it is missing and lock it; the main process holds the lock for all.

        Raises:
            ConfigError: Another process trains in it.
        """
        if not group.is_main_process:
            yield
            return
        with lock_folder(self.path, self.lock_path):
            yield
