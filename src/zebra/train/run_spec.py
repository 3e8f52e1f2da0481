"""What the numbers of a run depend on: settings, data, words and versions in; what differs from a checkpoint's out."""

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import zebra
from zebra.config.structure import diff_configs, unstructure
from zebra.config.train import TrainConfig
from zebra.distributed import ProcessGroup
from zebra.errors import ConfigError

# Settings that may change between the parts of one run: they touch at most the last bits of what is learned. The data
# may move; that it is the same data is checked by its digest.
RESUMABLE_SETTINGS = frozenset(
    (
        "out",
        "data",
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
PER_MACHINE_SETTINGS = frozenset(("out", "data", "workers", "log"))
"""Settings that may differ between machines of one run: where things lie there."""
NUMERICS_PACKAGES = ("zebra-clip", "torch", "numpy", "pillow", "simplejpeg", "tokenizers", "ftfy")
"""Those whose arithmetic a step goes through."""

RunSpec = dict[str, Any]


def build_run_spec(
    config: TrainConfig, data_digest: str, tokenizer_digest: str, device: torch.device
) -> RunSpec:
    """Gather what has to stay the same for a run to go on as if it had never stopped; ready for JSON."""
    return {
        "settings": numerics_settings(config),
        "data": data_digest,
        "tokenizer": tokenizer_digest,
        "device": device.type,
        "versions": {name: metadata.version(name) for name in NUMERICS_PACKAGES},
    }


def numerics_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide what is learned."""
    return {name: value for name, value in unstructure(config).items() if name not in RESUMABLE_SETTINGS}


def require_same_on_all_ranks(group: ProcessGroup, config: TrainConfig, run_spec: RunSpec) -> None:
    """Compare what the processes of a run are about to do.

    Raises:
        ConfigError: One of them has other settings, data, words, versions or code than the first; all is listed.
    """
    if group.world_size == 1:
        return
    told = {name: value for name, value in unstructure(config).items() if name not in PER_MACHINE_SETTINGS}
    first, *others = group.all_gather_object(run_spec | {"settings": told, "code": _code_digest()})
    for rank, other in enumerate(others, start=1):
        if changed := diff_configs(first, other):
            raise ConfigError(
                f"rank {rank} is about to do something else than rank 0:\n  "
                + "\n  ".join(changed)
                + "\nStart all of them with the same command, settings, data and version of zebra."
            )


def _code_digest() -> str:
    """Return a digest of this package's files."""
    folder = Path(zebra.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def require_resumable(
    saved: RunSpec, current: RunSpec, checkpoint_name: str, *, accept_changes: bool
) -> list[str]:
    """Compare a checkpoint's identity with that of the run that wants to go on from it.

    Args:
        checkpoint_name: The checkpoint, for the message.
        accept_changes: Go on all the same.

    Returns:
        One line for everything that changed.

    Raises:
        ConfigError: Something changed and nobody accepted it; all changes are listed.
    """
    changed = diff_configs(saved, current)
    if changed and not accept_changes:
        raise ConfigError(
            f"{checkpoint_name} belongs to a run that differs in:\n  "
            + "\n  ".join(changed)
            + "\nGone on from there, it would "
            "end otherwise than either. Restore what it had, name another --out, or take --accept-changes."
        )
    return changed
