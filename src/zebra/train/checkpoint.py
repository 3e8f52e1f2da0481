"""Checkpoints that survive anything: a snapshot in, a verified folder without pickle out, and back.

checkpoints/step-00001000/   model.safetensors  optimizer.safetensors  …  state.json  MANIFEST.json (sha256)

A checkpoint is written under a name that does not count, flushed to disk, and takes its final name when it is whole.
What has a final name is never written to again. A run that went back and comes by a step once more makes a second
folder, `step-00001000.2`, so that names sort in the order of writing. A damaged one is set aside as `*.damaged`.
"""

import errno
import hashlib
import json
import math
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zebra.atomic_io import fsync_path
from zebra.errors import CheckpointError, WeightsError
from zebra.pretrained.digests import sha256
from zebra.pretrained.manifest import verify_manifest, write_manifest
from zebra.pretrained.tensors import read_tensors
from zebra.train.snapshot import TrainSnapshot

NAME_PATTERN = re.compile(r"step-(\d+)(?:\.(\d+))?")
"""The step, and the course of the run: going back to an older checkpoint begins another, the second is `.2`."""
PARTIAL_PREFIX = ".partial-"
"""Begins the name of what is being written or removed: no checkpoint yet, or no longer."""
CORRUPT_SUFFIX = ".damaged"
STATE_FILE = "state.json"
TENSORS_SUFFIX = ".safetensors"
SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As safetensors calls them."""

DigestFunction = Callable[[Path], str]
"""Reads a file's sha256, or remembers it."""


def save_checkpoint(checkpoints_dir: Path, snapshot: TrainSnapshot) -> Path:
    """Write a snapshot into a new folder inside `checkpoints_dir`, durably; older checkpoints are not touched.

    Returns:
        The new one: whole, on disk, and the last of `list_checkpoints`.

    Raises:
        CheckpointError: It could not be written, and nothing is left of it; or, if the very last flush was what
            failed, it is whole but might not survive a power cut.
    """
    final = checkpoints_dir / _next_name(checkpoints_dir, snapshot.step)
    partial = checkpoints_dir / f"{PARTIAL_PREFIX}{final.name}"
    try:
        for left_over in checkpoints_dir.glob(f"{PARTIAL_PREFIX}*"):
            _remove(left_over)
        partial.mkdir(parents=True)
        digests = {name: _write_file(partial / name, pieces) for name, pieces in _checkpoint_files(snapshot)}
        write_manifest(partial, lambda path: digests[path.name])
        partial.rename(final)
        fsync_path(checkpoints_dir)
        fsync_path(checkpoints_dir.parent)  # `folder` itself may be new
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(_write_error_message(final, snapshot, error)) from error
    return final


def list_checkpoints(checkpoints_dir: Path) -> list[Path]:
    """Return checkpoints in the order of writing; whether they are whole is not known yet."""
    return sorted(
        (path for path in checkpoints_dir.glob("step-*") if NAME_PATTERN.fullmatch(path.name)), key=_sort_key
    )


def latest_checkpoint(checkpoints_dir: Path) -> Path | None:
    """Return the newest checkpoint that verifies; None if there never was one.

    Damaged ones on the way are renamed to `*.damaged`, with a warning.

    Raises:
        WeightsError: There are checkpoints, and every one of them is damaged, or was found damaged before.
    """
    for path in reversed(list_checkpoints(checkpoints_dir)):
        if _is_valid(path, sha256):
            return path
    damaged = sorted(path.name for path in checkpoints_dir.glob("step-*"))
    if damaged:
        raise WeightsError(
            f"no checkpoint in {checkpoints_dir} is whole: {', '.join(damaged)}. Bring one back from a copy, named without "
            f"{CORRUPT_SUFFIX}, or start again in another --out"
        )
    return None


def best_checkpoint(checkpoints_dir: Path) -> Path | None:
    """Return the checkpoint that did best in the checks among those that verify; None if no check ran."""
    whole = [path for path in list_checkpoints(checkpoints_dir) if _is_valid(path, sha256)]
    best = max(whole, key=_score_key, default=None)
    return None if best is None or _read_state(best).get("score") is None else best


def load_checkpoint(path: Path) -> TrainSnapshot:
    """Verify a checkpoint and read it, its tensors mapped from the files.

    Raises:
        WeightsError: It is damaged, or of another version of zebra.
    """
    names = verify_manifest(path)
    parts = {
        name.removesuffix(TENSORS_SUFFIX): path / name for name in names if name.endswith(TENSORS_SUFFIX)
    }
    tensors = {part: read_tensors(file) for part, file in parts.items()}
    try:
        held = _read_state(path)
        return TrainSnapshot(held["step"], tensors, held["state"], held["score"])
    except (OSError, KeyError) as error:
        raise WeightsError(
            f"{path} is undamaged but lacks {error}: another version of zebra wrote it; go on with that one"
        ) from error


def prune_checkpoints(checkpoints_dir: Path, num_to_keep: int, digest: DigestFunction = sha256) -> None:
    """Remove checkpoints, but neither the `num_to_keep` newest that verify nor the best that verifies.

    Damaged ones are renamed to `*.damaged`, with a warning, and stay. One that cannot be removed costs a warning, and
    another try at the next purge.
    """
    whole = [path for path in list_checkpoints(checkpoints_dir) if _is_valid(path, digest)]
    spared = {*whole[-num_to_keep:], max(whole, key=_score_key, default=None)}
    for path in whole:
        if path not in spared:
            _remove(path)


def memoize_digest(digest: DigestFunction = sha256) -> DigestFunction:
    """Return a `Digest` that reads a file again only if its size or time of modification changed."""
    known: dict[tuple[Path, int, int], str] = {}

    def remember(path: Path) -> str:
        state = path.stat()
        key = path, state.st_size, state.st_mtime_ns
        if key not in known:
            known[key] = digest(path)
        return known[key]

    return remember


def _sort_key(path: Path) -> tuple[int, int]:
    named = NAME_PATTERN.fullmatch(path.name)
    assert named
    return int(named[2] or 1), int(named[1])


def _next_name(checkpoints_dir: Path, step: int) -> str:
    """Name a checkpoint so that it comes after all others."""
    course, newest = max(map(_sort_key, list_checkpoints(checkpoints_dir)), default=(1, -1))
    if step <= newest:
        course += 1
    return f"step-{step:08d}" + (f".{course}" if course > 1 else "")


def _is_valid(path: Path, digest: DigestFunction) -> bool:
    """Verify a checkpoint, and set it aside if it is damaged."""
    problem: Exception
    try:
        verify_manifest(path, digest)
    except WeightsError as error:
        problem = error
    except OSError as error:
        if error.errno != errno.EIO:  # a bad sector stays; anything else may pass
            raise
        problem = error
    else:
        return True
    _quarantine(path, problem)
    return False


def _quarantine(path: Path, problem: Exception) -> None:
    aside = path.with_name(path.name + CORRUPT_SUFFIX)
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}{CORRUPT_SUFFIX}-{number}")
    try:
        path.rename(aside)
        outcome = f"it is {aside.name} now"
    except OSError as error:
        outcome = f"it could not be renamed ({error})"
    warnings.warn(f"a checkpoint is passed over: {problem}; {outcome}", stacklevel=2)


def _remove(path: Path) -> None:
    going = path if path.name.startswith(PARTIAL_PREFIX) else path.with_name(PARTIAL_PREFIX + path.name)
    try:
        path.rename(going)  # at one stroke: half a checkpoint would pass for a damaged one
        shutil.rmtree(going)
    except OSError as error:
        warnings.warn(f"{path} is not needed any more but could not be removed: {error}", stacklevel=2)


def _read_state(path: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    return held


def _score_key(path: Path) -> tuple[float, ...]:
    """Rank by score; of equal ones the newer is better."""
    score = _read_state(path).get("score")
    return (-math.inf if score is None or math.isnan(score) else score, *_sort_key(path))


def _write_error_message(path: Path, snapshot: TrainSnapshot, error: OSError) -> str:
    message = f"checkpoint {path} could not be written: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        needed = sum(tensor.nbytes for named in snapshot.tensors.values() for tensor in named.values())
        free = shutil.disk_usage(path.parent).free
        message += f" ({needed:,} bytes needed, {free:,} free)"
    return f"{message}. Older ones are untouched: make room or mend the disk, and run again to go on from the newest"


def _write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Write a file and return the sha256 of what was meant to be in it."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in chunks:
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _checkpoint_files(snapshot: TrainSnapshot) -> Iterator[tuple[str, Iterable[bytes | memoryview]]]:
    for part, tensors in snapshot.tensors.items():
        yield f"{part}{TENSORS_SUFFIX}", _safetensors_chunks(tensors)
    held = {"step": snapshot.step, "score": snapshot.score, "state": snapshot.state}
    yield STATE_FILE, [json.dumps(held, indent=1).encode()]


def _safetensors_chunks(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file: the length of its header in 8 bytes, the header, and the tensors' bytes.

    By hand, because `save_file` before safetensors 0.8 copies everything once more and stops all threads meanwhile.
    """
    ordered = sorted(
        tensors, key=lambda name: (-tensors[name].element_size(), name)
    )  # so that all are aligned
    entries, end = {}, 0
    for name in ordered:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little") + header
    for name in ordered:
        tensor = tensors[name].detach().cpu().contiguous()
        yield tensor.reshape(-1).view(torch.uint8).numpy().data
