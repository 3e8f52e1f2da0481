"""Choice of the faster of two graphs of a tower, measured once per machine."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path

from zebra.config.processor import processor_name
from zebra.lite.golden import read_golden_inputs
from zebra.lite.tower import OnnxTower
from zebra.pretrained.digests import cached_sha256, has_passed, record_passed
from zebra.pretrained.onnx.session import import_onnxruntime

NUM_TRIALS = 3
"""Passes of the golden input, of which the fastest counts."""


def pick_faster_tower(towers: Sequence[OnnxTower], folder: Path) -> OnnxTower:
    """Return the tower that is fastest on this machine; the choice is cached on disk."""
    machine = f"{platform.machine()} {processor_name()} onnxruntime {import_onnxruntime('zebra.lite').__version__}"
    digests = " ".join(cached_sha256(tower.path) for tower in towers)
    checks = [f"fastest {tower.graph.precision} of {digests} on {machine}" for tower in towers]
    for tower, check in zip(towers, checks, strict=True):
        if has_passed(check):
            return tower
    seconds = [_time_tower(tower, folder) for tower in towers]
    fastest = min(range(len(towers)), key=seconds.__getitem__)
    record_passed(checks[fastest])
    return towers[fastest]


def _time_tower(tower: OnnxTower, folder: Path) -> float:
    """Return the seconds of one pass, with a tower of its own so that its memory is released afterwards."""
    tower = OnnxTower(tower.path, tower.graph, tower.num_threads)
    inputs = read_golden_inputs(folder, tower.graph.tower)
    tower(inputs)
    seconds = []
    for _ in range(NUM_TRIALS):
        start = time.perf_counter()
        tower(inputs)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
