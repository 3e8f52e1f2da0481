"""Length of a run, and the checkpoint that it continues from."""

import math
import warnings
from pathlib import Path

from zebra.config.train import TrainConfig
from zebra.data.sources import Source
from zebra.errors import ConfigError
from zebra.train.checkpoint import latest_checkpoint
from zebra.train.run_dir import RunDir, RunStatus
from zebra.train.schedule import learning_rate
from zebra.train.state import TrainState


def count_total_steps(config: TrainConfig, source: Source, step: int, samples_seen: int) -> int:
    """Return the steps of the whole run, of which `step` are done and have consumed `samples_seen` samples."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return step + max(0, math.ceil((config.epochs * len(source) - samples_seen) / config.num_new))


def extend_finished_run(config: TrainConfig, run_dir: RunDir, state: TrainState, total_steps: int) -> None:
    """Set the model of a finished run aside and warn that the learning rate rises again.

    Raises:
        ConfigError: The run would not get longer.
    """
    if total_steps <= state.step:
        raise ConfigError(
            f"{run_dir.path} holds a finished run of {state.step} steps, which can only be extended, and {total_steps} "
            "are not more. Name another --out."
        )
    if not state.group.is_main_process:
        return
    model = run_dir.set_aside_model(state.step)
    lr = learning_rate(
        state.step,
        peak_lr=config.lr,
        warmup_steps=config.optimizer.warmup_steps,
        total_steps=total_steps,
        schedule=config.schedule,
    )
    warnings.warn(
        f"extending a finished run of {state.step} steps to {total_steps}. The learning rate had decayed to about 0; "
        f"it continues at {lr:.3g}, as in a run of {total_steps} steps. The result is not that of such a run from the "
        f"start. The finished model is kept in {model}",
        stacklevel=2,
    )


def find_checkpoint(run_dir: RunDir, resume: str, status: RunStatus) -> Path | None:
    """Return the verified checkpoint to resume from; None for a new run.

    Raises:
        ConfigError: `resume` names no checkpoint.
        WeightsError: All checkpoints of the run directory are corrupt.
    """
    if resume in ("auto", "never"):
        return latest_checkpoint(run_dir.checkpoints) if status in ("resumable", "extendable") else None
    if not (Path(resume) / "MANIFEST.json").is_file():
        raise ConfigError(f"--resume {resume} is not a checkpoint. Use auto, never or the path of a checkpoint.")
    return Path(resume)
