"""Checkpoints: write, verify, list and prune snapshots on disk, without pickle.

checkpoints/step-00001000/   model.safetensors  optimizer.safetensors  …  state.json  MANIFEST.json (sha256)

A checkpoint is written under a temporary name, flushed to disk, and renamed when it is complete. It never changes
afterwards. A run that resumes from an older checkpoint and reaches the same step again writes a second directory,
`step-00001000.2`, so names sort in the order of writing. A corrupt checkpoint is renamed to `*.corrupt`.
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

from zebra.atomic_io import fsync_path, is_disk_full
from zebra.errors import CheckpointError, WeightsError
from zebra.pretrained.digests import sha256
from zebra.pretrained.manifest import verify_manifest, write_manifest
from zebra.pretrained.tensors import read_tensors
from zebra.train.snapshot import TrainSnapshot

NAME_PATTERN = re.compile(r"step-(\d+)(?:\.(\d+))?")
"""Step and attempt; resuming from an older checkpoint starts another attempt, the second is `.2`."""
PARTIAL_PREFIX = ".partial-"
"""Prefix of checkpoints that are being written or removed, and do not count."""
CORRUPT_SUFFIX = ".corrupt"
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
"""Names in the safetensors format."""

DigestFunction = Callable[[Path], str]
"""Computes the sha256 of a file, or returns it from memory."""


def save_checkpoint(checkpoints_dir: Path, snapshot: TrainSnapshot) -> Path:
    """Write a snapshot to a new directory in `checkpoints_dir` and flush it; older checkpoints are not changed.

    Returns:
        The new checkpoint, complete and on disk; the last of `list_checkpoints`.

    Raises:
        CheckpointError: It could not be written, and its files are removed. Only if the last flush failed is it
            complete, but it might not survive a power failure.
    """
    final = checkpoints_dir / _next_name(checkpoints_dir, snapshot.step)
    partial = checkpoints_dir / f"{PARTIAL_PREFIX}{final.name}"
    try:
        for leftover in checkpoints_dir.glob(f"{PARTIAL_PREFIX}*"):
            _remove(leftover)
        partial.mkdir(parents=True)
        digests = {name: _write_file(partial / name, chunks) for name, chunks in _checkpoint_files(snapshot)}
        write_manifest(partial, lambda path: digests[path.name])
        partial.rename(final)
        fsync_path(checkpoints_dir)
        fsync_path(checkpoints_dir.parent)  # it may be new itself
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(_write_error_message(final, snapshot, error)) from error
    return final


def list_checkpoints(checkpoints_dir: Path) -> list[Path]:
    """Return all checkpoints in the order of writing, without verifying them."""
    return sorted((path for path in checkpoints_dir.glob("step-*") if NAME_PATTERN.fullmatch(path.name)), key=_sort_key)


def latest_checkpoint(checkpoints_dir: Path) -> Path | None:
    """Return the latest valid checkpoint; None if none was ever written.

    Corrupt checkpoints after it are renamed to `*.corrupt`, with a warning.

    Raises:
        WeightsError: There are checkpoints, and all of them are corrupt, now or since an earlier verification.
    """
    for path in reversed(list_checkpoints(checkpoints_dir)):
        if _is_valid(path, sha256):
            return path
    corrupt = sorted(path.name for path in checkpoints_dir.glob("step-*"))
    if corrupt:
        raise WeightsError(
            f"no checkpoint in {checkpoints_dir} is valid: {', '.join(corrupt)}. Restore one from a backup, without "
            f"{CORRUPT_SUFFIX} in its name, or start a new run in another --out."
        )
    return None


def best_checkpoint(checkpoints_dir: Path) -> Path | None:
    """Return the valid checkpoint with the highest validation score; None if none has a score."""
    valid = [path for path in list_checkpoints(checkpoints_dir) if _is_valid(path, sha256)]
    best = max(valid, key=_score_key, default=None)
    return None if best is None or _read_state(best).get("score") is None else best


def load_checkpoint(path: Path) -> TrainSnapshot:
    """Verify a checkpoint and load it, with memory-mapped tensors.

    Raises:
        WeightsError: It is corrupt, or another version of zebra wrote it.
    """
    names = _verify(path, sha256)
    parts = {name.removesuffix(TENSORS_SUFFIX): path / name for name in names if name.endswith(TENSORS_SUFFIX)}
    tensors = {part: read_tensors(file) for part, file in parts.items()}
    try:
        document = _read_state(path)
        return TrainSnapshot(document["step"], tensors, document["state"], document["score"])
    except (OSError, KeyError) as error:
        raise WeightsError(
            f"{path} is not corrupt, but lacks {error}: another version of zebra wrote it. Resume with that version."
        ) from error


def read_score(path: Path) -> tuple[int, float | None]:
    """Return the step of a checkpoint and its mean validation score, without verifying it."""
    document = _read_state(path)
    return document["step"], document["score"]


def prune_checkpoints(checkpoints_dir: Path, num_to_keep: int, digest: DigestFunction = sha256) -> None:
    """Remove all valid checkpoints except the `num_to_keep` latest and the best one.

    Corrupt ones are renamed to `*.corrupt`, with a warning, and stay. If one cannot be removed, a warning is issued,
    and the next call tries again.
    """
    valid = [path for path in list_checkpoints(checkpoints_dir) if _is_valid(path, digest)]
    keep = {*valid[-num_to_keep:], max(valid, key=_score_key, default=None)}
    for path in valid:
        if path not in keep:
            _remove(path)


def memoize_digest(digest: DigestFunction = sha256) -> DigestFunction:
    """Return a digest function that reads a file again only if its size or modification time has changed."""
    cache: dict[tuple[Path, int, int], str] = {}

    def cached_digest(path: Path) -> str:
        stat = path.stat()
        key = path, stat.st_size, stat.st_mtime_ns
        if key not in cache:
            cache[key] = digest(path)
        return cache[key]

    return cached_digest


def _sort_key(path: Path) -> tuple[int, int]:
    match = NAME_PATTERN.fullmatch(path.name)
    assert match
    return int(match[2] or 1), int(match[1])


def _next_name(checkpoints_dir: Path, step: int) -> str:
    """Return a name that sorts after all existing checkpoints."""
    attempt, latest_step = max(map(_sort_key, list_checkpoints(checkpoints_dir)), default=(1, -1))
    if step <= latest_step:
        attempt += 1
    return f"step-{step:08d}" + (f".{attempt}" if attempt > 1 else "")


def _verify(path: Path, digest: DigestFunction) -> dict[str, str]:
    """Verify a checkpoint; return the SHA-256 of each file by name."""
    tensor_files = (file.name for file in path.glob(f"*{TENSORS_SUFFIX}"))
    return verify_manifest(path, digest, required=[STATE_FILE, *tensor_files])


def _is_valid(path: Path, digest: DigestFunction) -> bool:
    """Verify a checkpoint, and rename it if it is corrupt."""
    problem: Exception
    try:
        _verify(path, digest)
    except WeightsError as error:
        problem = error
    except OSError as error:
        if error.errno != errno.EIO:  # a bad sector is permanent, other errors may not be
            raise
        problem = error
    else:
        return True
    _quarantine(path, problem)
    return False


def _quarantine(path: Path, problem: Exception) -> None:
    target = path.with_name(path.name + CORRUPT_SUFFIX)
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}{CORRUPT_SUFFIX}-{number}")
    try:
        path.rename(target)
        outcome = f"it is {target.name} now"
    except OSError as error:
        outcome = f"it could not be renamed ({error})"
    warnings.warn(f"skipped a corrupt checkpoint: {problem}; {outcome}", stacklevel=2)


def _remove(path: Path) -> None:
    partial = path if path.name.startswith(PARTIAL_PREFIX) else path.with_name(PARTIAL_PREFIX + path.name)
    try:
        path.rename(partial)  # atomic: a half-removed checkpoint would count as corrupt
        shutil.rmtree(partial)
    except OSError as error:
        warnings.warn(f"could not remove {path}, which is no longer needed: {error}", stacklevel=2)


def _read_state(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    return document


def _score_key(path: Path) -> tuple[float, ...]:
    """Order by score, then by time; NaN and missing scores come first."""
    score = _read_state(path).get("score")
    return (-math.inf if score is None or math.isnan(score) else score, *_sort_key(path))


def _write_error_message(path: Path, snapshot: TrainSnapshot, error: OSError) -> str:
    message = f"could not write checkpoint {path}: {error.strerror}"
    if is_disk_full(error):
        num_bytes = sum(tensor.nbytes for named in snapshot.tensors.values() for tensor in named.values())
        free = shutil.disk_usage(path.parent).free
        message += f" ({num_bytes:,} bytes needed, {free:,} free)"
    return f"{message}. Older checkpoints are unchanged. Free disk space or repair the disk, then run again to resume."


def _write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Write a file and return the sha256 of its intended content, so that write errors are detected later."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _checkpoint_files(snapshot: TrainSnapshot) -> Iterator[tuple[str, Iterable[bytes | memoryview]]]:
    for part, tensors in snapshot.tensors.items():
        yield f"{part}{TENSORS_SUFFIX}", _safetensors_chunks(tensors)
    document = {"step": snapshot.step, "score": snapshot.score, "state": snapshot.state}
    yield STATE_FILE, [json.dumps(document, indent=1).encode()]


def _safetensors_chunks(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a safetensors file: the length of the header in 8 bytes, the header, and the tensors.

    `safetensors.torch.save_file` does not give the digest of the intended content, only of what reached the file.
    """
    # Larger elements first, so that all tensors are aligned.
    ordered = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
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
