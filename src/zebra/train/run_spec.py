"""What the numbers of a run depend on: settings, data, words and versions in; what differs from a checkpoint's out."""

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import zebra
from zebra.config.structure import differences, unstructure
from zebra.config.train import TrainConfig
from zebra.distributed import World
from zebra.errors import ConfigError

# Settings that may change between the parts of one run: they touch at most the last bits of what is learned. The data
# may move; that it is the same data is checked by its digest.
FREE = frozenset(
    (
        "out",
        "data",
        "workers",
        "worker_timeout",
        "checkpoint_activations",
        "compile",
        "parallel",
        "rank_timeout",
        "checkpoint_every",
        "checkpoint_minutes",
        "keep_checkpoints",
        "checks",
        "check_every",
        "check_samples",
        "log",
    )
)
ELSEWHERE = frozenset(("out", "data", "workers", "log"))
"""Settings that may differ between machines of one run: where things lie there."""
PACKAGES = ("zebra-clip", "torch", "numpy", "pillow", "simplejpeg", "tokenizers", "ftfy")
"""Those whose arithmetic a step goes through."""

Identity = dict[str, Any]


def identity(config: TrainConfig, data_digest: str, tokenizer_digest: str, device: torch.device) -> Identity:
    """Gather what has to stay the same for a run to go on as if it had never stopped; ready for JSON."""
    return {
        "settings": settings(config),
        "data": data_digest,
        "tokenizer": tokenizer_digest,
        "device": device.type,
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide what is learned."""
    return {name: value for name, value in unstructure(config).items() if name not in FREE}


def require_alike(world: World, config: TrainConfig, mine: Identity) -> None:
    """Compare what the processes of a run are about to do.

    Raises:
        ConfigError: One of them has other settings, data, words, versions or code than the first; all is listed.
    """
    if world.size == 1:
        return
    told = {name: value for name, value in unstructure(config).items() if name not in ELSEWHERE}
    first, *others = world.objects(mine | {"settings": told, "code": _code()})
    for rank, other in enumerate(others, start=1):
        if changed := differences(first, other):
            raise ConfigError(
                f"rank {rank} is about to do something else than rank 0:\n  "
                + "\n  ".join(changed)
                + "\nStart all of them with the same command, settings, data and version of zebra."
            )


def _code() -> str:
    """Return a digest of this package's files."""
    folder = Path(zebra.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def require_same(before: Identity, now: Identity, where: str, *, accept: bool) -> list[str]:
    """Compare a checkpoint's identity with that of the run that wants to go on from it.

    Args:
        where: The checkpoint, for the message.
        accept: Go on all the same.

    Returns:
        One line for everything that changed.

    Raises:
        ConfigError: Something changed and nobody accepted it; all changes are listed.
    """
    changed = differences(before, now)
    if changed and not accept:
        raise ConfigError(
            f"{where} belongs to a run that differs in:\n  "
            + "\n  ".join(changed)
            + "\nGone on from there, it would "
            "end otherwise than either. Restore what it had, name another --out, or take --accept-changes."
        )
    return changed
