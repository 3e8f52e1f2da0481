"""Checkpoints without pickle: model, optimizer and counters in, a verified folder out, and back.

checkpoints/step-00001000/   model.safetensors  optimizer.safetensors  state.json  MANIFEST.json (sha256)
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from zebra.errors import WeightsError
from zebra.models import CLIP
from zebra.pretrained.manifest import sync_folder, verify_manifest, write_manifest

PREFIX = "step-"


def save_checkpoint(
    folder: Path, model: CLIP, optimizer: torch.optim.Optimizer, step: int, state: dict[str, Any], keep: int
) -> Path:
    """Write `folder/step-<step>`: beside its final name first, renamed when it is whole; then drop old ones."""
    final = folder / f"{PREFIX}{step:08d}"
    partial = folder / f".partial-{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_contiguous(model.state_dict()), partial / "model.safetensors")
    save_file(_contiguous(_optimizer_tensors(model, optimizer)), partial / "optimizer.safetensors")
    (partial / "state.json").write_text(json.dumps({"step": step, **state}, indent=1), encoding="utf-8")
    write_manifest(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    sync_folder(folder)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Return whole checkpoints, oldest first."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if (path / "MANIFEST.json").is_file())


def load_newest(folder: Path, model: CLIP, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Load the newest checkpoint that verifies and return its state; None if there is none at all.

    A damaged checkpoint is renamed to `*.damaged` and the one before it is taken.

    Raises:
        WeightsError: There are checkpoints and every one of them is damaged.
    """
    found = list_checkpoints(folder)
    problems = []
    for path in reversed(found):
        try:
            verify_manifest(path)
        except WeightsError as error:
            problems.append(str(error))
            path.rename(path.with_name(f"{path.name}.damaged"))
            continue
        return load_checkpoint(path, model, optimizer)
    if problems:
        raise WeightsError(
            f"no checkpoint in {folder} is whole: {'; '.join(problems)}; start again in another folder"
        )
    return None


def load_checkpoint(path: Path, model: CLIP, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restore model and optimizer in place from one verified folder and return its state."""
    model.load_state_dict(load_file(path / "model.safetensors"))
    tensors = load_file(path / "optimizer.safetensors")
    for name, parameter in model.named_parameters():
        prefix = f"{name}/"
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if own:
            optimizer.state[parameter] = {
                # moments take their parameter's memory layout: the fused optimizer walks both side by side
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in own.items()
            }
    state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
    return state


def _optimizer_tensors(model: CLIP, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
