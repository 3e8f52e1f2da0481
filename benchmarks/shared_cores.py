"""Speed of training beside other work on the same cores, by thread count and wait policy of OpenMP.

    python benchmarks/shared_cores.py [--seconds 4] [--repeats 3] [--work step loss] [--policies default passive …]
                                      [--session-nice -20]

Every number is measured in its own process and session (Linux shares cores among sessions first), alone and beside one
process that is always busy, in alternation. The fair share of a process beside a busy one is its speed alone on half of
the cores (two cores: with one thread). On a machine that others use, `--session-nice -20` (for root) gives the measured
and the busy sessions nearly all of its time. Rows go to results/shared_cores.jsonl, one for each kind of work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "share_cores": {"SHARE_CORES": "1"},
    **{f"spin-{count}": {"GOMP_SPINCOUNT": str(count)} for count in (100, 300, 1000, 3000, 10000, 30000)},
}
"""Variables of each policy; SHARE_CORES is this program's own and stands for `zebra.pretrained.shared_cores`."""
WORK = ("step", "vit", "loss")
"""A step of tiny-resnet with 48 pairs, one of tiny-vit with 128, and InfoNCE of 8,192 pairs in tiles."""
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "SHARE_CORES")


def step_of(work: str) -> Callable[[], object]:
    """Return a function that does one unit of work: a training step, or a loss with its backward pass."""
    import torch
    from torch.nn import functional as F

    from zebra.config.presets import get_preset
    from zebra.config.train import OptimizerConfig
    from zebra.losses import info_nce
    from zebra.models import CLIP
    from zebra.train.optimizer import build_optimizer
    from zebra.train.step import train_step

    torch.manual_seed(0)
    if work == "loss":
        vectors = [F.normalize(torch.randn(8192, 512), dim=1).requires_grad_() for _ in range(2)]
        return lambda: info_nce(*vectors, 50.0).backward()
    model_name, batch_size = {"step": ("tiny-resnet", 48), "vit": ("tiny-vit", 128)}[work]
    model = CLIP(get_preset(model_name)).train()
    optimizer = build_optimizer(model, OptimizerConfig())
    images = torch.randn(batch_size, 3, 64, 64)
    tokens_BL = torch.zeros(batch_size, 32, dtype=torch.int64)
    tokens_BL[:, :12] = torch.randint(1, 2000, (batch_size, 12))
    tokens_BL[:, 12] = 2047
    return lambda: train_step(model, optimizer, images, tokens_BL, lr=1e-3, grad_clip_norm=1.0, precision="fp32")


def measure(work: str, seconds: float) -> dict[str, float]:
    """Repeat the work for some seconds in this process; return its speed and CPU time."""
    from zebra.pretrained.shared_cores import share_cores

    step = step_of(work)
    step()
    step()
    num_steps, start, cpu_start = 0, time.perf_counter(), time.process_time()
    with share_cores() if os.environ.get("SHARE_CORES") else nullcontext():
        while time.perf_counter() - start < seconds:
            step()
            num_steps += 1
    return {
        "per_second": num_steps / (time.perf_counter() - start),
        "cpu_seconds": (time.process_time() - cpu_start) / num_steps,
    }


def start_session(command: list[str], session_nice: int, **options: Any) -> "subprocess.Popen[str]":
    """Start a process in a session of its own, with this priority among all sessions."""
    process = subprocess.Popen(command, start_new_session=True, text=True, **options)
    if session_nice:
        Path(f"/proc/{process.pid}/autogroup").write_text(str(session_nice), encoding="ascii")
    return process


@contextmanager
def busy_processes(count: int, session_nice: int) -> Iterator[None]:
    """Run processes that are always busy, each in a session of its own, until the block ends."""
    processes = [start_session([sys.executable, "-c", "while True: pass"], session_nice) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure_in_subprocess(
    work: str, seconds: float, threads: int, policy: str, num_busy: int, session_nice: int
) -> dict[str, float]:
    """Measure in a process with these variables, beside busy processes."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= POLICIES[policy] | {"OMP_NUM_THREADS": str(threads)}
    with busy_processes(num_busy, session_nice):
        command = [sys.executable, __file__, "--measure", work, "--seconds", str(seconds)]
        output, _ = start_session(command, session_nice, env=environment, stdout=subprocess.PIPE).communicate()
    result: dict[str, float] = json.loads(output)
    return result


def main() -> None:
    """Measure every policy in alternation and save a row per kind of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", nargs="+", default=[*WORK], choices=[*WORK])
    parser.add_argument("--policies", nargs="+", default=["default", "passive", "share_cores"], choices=[*POLICIES])
    parser.add_argument("--session-nice", type=int, default=0)
    parser.add_argument("--measure", help="measure one kind of work in this process and print it")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.seconds)))
        return
    from receipt import save_row

    num_cores = len(os.sched_getaffinity(0))
    for work in args.work:
        variants = [(num_cores // 2, "default", busy) for busy in (0, 1)]
        variants += [(num_cores, policy, busy) for policy in args.policies for busy in (0, 1)]
        results: dict[tuple[int, str, int], list[dict[str, float]]] = {variant: [] for variant in variants}
        for _ in range(args.repeats):
            for threads, policy, busy in variants:
                results[threads, policy, busy].append(
                    measure_in_subprocess(work, args.seconds, threads, policy, busy, args.session_nice)
                )
        row: dict[str, Any] = {
            "work": work,
            "repeats": args.repeats,
            "session_nice": args.session_nice,
            "load_average": os.getloadavg()[0],
        }
        for (threads, policy, busy), measured in results.items():
            name = f"{threads} threads, {policy}, {'beside a busy process' if busy else 'alone'}"
            row[name] = {key: round(statistics.median(m[key] for m in measured), 4) for key in measured[0]}
        save_row("shared_cores", row)


if __name__ == "__main__":
    main()
