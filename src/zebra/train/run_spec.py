"""Run spec: everything that determines the numbers of a run."""

import hashlib
import math
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import zebra
from zebra.config.structure import diff_configs, unstructure
from zebra.config.train import TrainConfig
from zebra.distributed import ProcessGroup
from zebra.errors import ConfigError

# Settings that may change on resume: they affect at most the last bits of the weights. The path of the data may change,
# because its digest is compared.
RESUMABLE_SETTINGS = frozenset(
    (
        "out",
        "device",
        "data",
        "rehearse",
        "workers",
        "worker_timeout",
        "activation_checkpointing",
        "compile",
        "parallel",
        "rank_timeout",
        "checkpoint_every",
        "checkpoint_minutes",
        "keep_checkpoints",
        "eval_sets",
        "eval_every",
        "eval_samples",
        "log",
    )
)
LENGTH_SETTINGS = frozenset(("steps", "epochs"))
"""Settings that may change when a finished run is extended."""
PER_MACHINE_SETTINGS = frozenset(("out", "data", "rehearse", "workers", "log"))
"""Settings that may differ between the machines of a run: local paths and loggers."""
NUMERICS_PACKAGES = ("zebra-clip", "torch", "numpy", "pillow", "simplejpeg", "tokenizers", "ftfy")
"""Packages that take part in the arithmetic of a step."""

RunSpec = dict[str, Any]


def build_run_spec(config: TrainConfig, data_digest: str, tokenizer_digest: str, device: torch.device) -> RunSpec:
    """Return everything that must stay the same for a run to resume exactly; JSON-serializable."""
    return {
        "settings": numerics_settings(config),
        "data": data_digest,
        "tokenizer": tokenizer_digest,
        "device": device.type,
        "versions": {name: metadata.version(name) for name in (*NUMERICS_PACKAGES, *config.model.libraries)},
    }


def numerics_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that determine the numbers of a run."""
    return {name: value for name, value in unstructure(config).items() if name not in RESUMABLE_SETTINGS}


def require_same_on_all_ranks(group: ProcessGroup, config: TrainConfig, run_spec: RunSpec) -> None:
    """Compare the run specs of all processes.

    Raises:
        ConfigError: A process has other settings, data, tokenizer, versions or code than rank 0; all are listed.
    """
    if group.world_size == 1:
        return
    settings = {name: value for name, value in unstructure(config).items() if name not in PER_MACHINE_SETTINGS}
    first, *others = group.all_gather_object(run_spec | {"settings": settings, "code": _code_digest()})
    for rank, other in enumerate(others, start=1):
        if changed := diff_configs(first, other):
            raise ConfigError(
                f"rank {rank} differs from rank 0 in:\n  "
                + "\n  ".join(changed)
                + "\nStart all processes with the same command, settings, data and version of zebra."
            )


def _code_digest() -> str:
    """Return a digest of this package's files."""
    package_dir = Path(zebra.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package_dir.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def only_length_differs(saved_settings: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Return whether two runs have the same settings except for `steps` and `epochs`."""
    saved, current = (
        {name: value for name, value in each.items() if name not in LENGTH_SETTINGS}
        for each in (saved_settings, settings)
    )
    return saved == current


def is_last_step(saved: RunSpec, step: int, samples_seen: int, num_samples: int) -> bool:
    """Return whether a checkpoint is the end of its run, whose `steps` or `epochs` it records."""
    steps, epochs = (saved["settings"].get(name) for name in ("steps", "epochs"))
    return step >= steps if steps is not None else samples_seen >= (epochs or math.inf) * num_samples


def require_resumable(
    saved: RunSpec, current: RunSpec, checkpoint_name: str, *, accept_changes: bool, is_last: bool = False
) -> list[str]:
    """Compare the run spec of a checkpoint with that of the current run.

    Args:
        checkpoint_name: Name of the checkpoint in the error message.
        accept_changes: Resume in spite of changes.
        is_last: The checkpoint is the end of its run, which may then be extended.

    Returns:
        One line per change.

    Raises:
        ConfigError: There are changes besides an extension, and `accept_changes` is False; all are listed.
    """
    changed = diff_configs(saved, current)
    is_extension = (
        is_last
        and only_length_differs(saved["settings"], current["settings"])
        and not diff_configs(saved | {"settings": {}}, current | {"settings": {}})
    )
    if changed and not accept_changes and not is_extension:
        raise ConfigError(
            f"{checkpoint_name} belongs to a run that differs in:\n  "
            + "\n  ".join(changed)
            + "\nResuming would reproduce neither run. Restore these settings, use another --out, or pass "
            "--accept-changes."
        )
    return changed
