"""Comparison of runs that are killed at random moments and resumed with an undisturbed run.

    python benchmarks/crash.py [--trials 50] [--kills 2] [--seed 0] [--keep]

A small CLIP trains on drawn images, with EMA weights, evaluations and a few damaged images. One run is not disturbed.
Every trial starts the same run in its own directory, kills it with SIGKILL, resumes it, kills it again, and lets it
finish. The trials alternate between four phases in which they kill:

    training    a random time after a random step
    saving      when the k-th file of a checkpoint is opened for writing
    renaming    when the k-th file or folder is renamed to its final name
    purging     when the k-th file or folder of an old checkpoint is deleted

An audit hook in the killed process detects the last three; k is random. In the end, all results must be identical: the
bytes of the model folder and of the last checkpoint (weights, EMA weights, optimizer, RNG state), the skipped samples,
the scores, and the numbers of the log. Exits with 1 if any trial differs, or if there was no kill in one of the
phases. The row goes to results/crash.jsonl.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from receipt import save_row

PHASES = ("training", "saving", "renaming", "purging")
EVENTS = {"saving": ("open",), "renaming": ("os.rename",), "purging": ("os.remove", "os.rmdir")}
COMPARED = ("step", "samples", "loss", "lr", "logit_scale", "grad_norm", "batch_accuracy", "eval")
STEPS = 60
NUM_IMAGES = 240
DAMAGED = (17, 101, 160)
RUN = (
    "--steps", str(STEPS), "--batch-size", "16", "--workers", "1", "--seed", "3", "--model.image-size", "32",
    "--model.vision.width", "8", "--model.vision.heads", "4", "--model.text.layers", "1",
    "--optimizer.warmup-steps", "5", "--checkpoint-every", "4", "--eval-every", "10", "--eval-samples", "40",
    "--log.every", "1", "--ema-decay", "0.9", "--data-options.max-skip-rate", "0.1", "--precision", "fp32",
)  # fmt: skip

VICTIM = """
import os, signal, sys
phase, events, nth, folder = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3]), sys.argv[4]
seen = 0
def hook(event, arguments):
    global seen
    if event not in events or not arguments or not isinstance(arguments[0], (str, os.PathLike)):
        return
    if event == "open" and (len(arguments) < 2 or "w" not in str(arguments[1]) and "a" not in str(arguments[1])):
        return
    path = os.fspath(arguments[0])
    inside_of_rmtree = event != "open" and not os.path.isabs(path)  # it passes names relative to the folder
    if folder not in path and not inside_of_rmtree:
        return
    seen += 1
    if seen == nth:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from zebra.cli.main import main
raise SystemExit(main(sys.argv[5:]))
"""


def main() -> int:
    """Run the trials, print differences and save the row."""
    args = parse_args()
    home = Path(tempfile.mkdtemp(prefix="crash-"))
    os.environ["ZEBRA_CACHE"] = str(home / "cache")
    draw(home / "world")
    train_to_end(home, home / "undisturbed")
    expected = collect_results(home / "undisturbed")
    rng = random.Random(args.seed)
    num_kills: Counter[str] = Counter()
    identical = 0
    for number in range(args.trials):
        phase = PHASES[number % len(PHASES)]
        out = home / f"trial-{number}"
        kills = sum(kill_once(home, out, phase, rng) for _ in range(args.kills))
        train_to_end(home, out)
        differences = find_differences(expected, collect_results(out))
        num_kills[phase] += kills
        identical += not differences
        print(f"trial {number + 1}: {kills} kills while {phase}: {differences or 'identical'}", flush=True)
        if not differences:
            shutil.rmtree(out)
    row = {"trials": args.trials, "identical": identical, "kills": dict(num_kills), "seed": args.seed}
    print(f"{identical} of {args.trials} identical; kills: {dict(num_kills)}")
    if args.keep:
        save_row("crash", row)
    if identical < args.trials:
        print(f"kept for inspection: {home}")
        return 1
    if missed := [phase for phase in PHASES[: args.trials] if not num_kills[phase]]:
        print(f"no kill while {', '.join(missed)}, so nothing is tested there. Run more trials.")
        return 1
    shutil.rmtree(home)
    return 0


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--kills", type=int, default=2, help="kills per run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="append the row to results/crash.jsonl")
    return parser.parse_args()


def draw(world: Path) -> None:
    """Write captioned images of colored shapes, a few of them damaged, and an evaluation dataset."""
    from PIL import Image, ImageDraw

    from zebra.data.benchmarks.writer import write_classification
    from zebra.data.shard_writer import ShardWriter

    rng = random.Random(0)
    kinds = [(color, shape) for color in ("red", "green", "blue", "gray") for shape in ("disc", "box")]

    def draw_shape(color: str, shape: str) -> bytes:
        image = Image.new("RGB", (40, 36), (rng.randrange(200, 256),) * 3)
        pen, left, top = ImageDraw.Draw(image), rng.randrange(12), rng.randrange(10)
        (pen.ellipse if shape == "disc" else pen.rectangle)((left, top, left + 22, top + 20), fill=color)
        file = io.BytesIO()
        image.save(file, "JPEG")
        return file.getvalue()

    with ShardWriter(world / "train", samples_per_shard=50) as shards:
        for number in range(NUM_IMAGES):
            color, shape = kinds[rng.randrange(len(kinds))]
            data = draw_shape(color, shape)
            data = data[: len(data) // 2] if number in DAMAGED else data
            shards.write(f"{number:05d}", {"jpg": data, "txt": f"a {color} {shape}".encode()})
    labels = [number % len(kinds) for number in range(80)]
    samples = [(draw_shape(*kinds[label]), "jpg", label) for label in labels]
    write_classification(world / "check", samples, [f"{color} {shape}" for color, shape in kinds], ["a {c}"])


def command(home: Path, out: Path) -> list[str]:
    """Return the arguments of the run."""
    data = ("--data", str(home / "world" / "train"), "--out", str(out), "--eval-sets", str(home / "world" / "check"))
    return ["train", *data, *RUN]


def train_to_end(home: Path, out: Path) -> None:
    """Start or resume a run and wait until it finishes."""
    process = subprocess.run(
        [sys.executable, "-m", "zebra", *command(home, out)], capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise SystemExit(f"the run in {out} ended with {process.returncode}:\n{process.stderr}")


def kill_once(home: Path, out: Path, phase: str, rng: random.Random) -> bool:
    """Start or resume a run and kill it; return False if it finished before."""
    nth = rng.randrange(1, {"saving": 60, "renaming": 25, "purging": 60, "training": 2}[phase])
    events = ",".join(EVENTS.get(phase, ("none",)))
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, phase, events, str(nth), str(out), *command(home, out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if phase == "training":
        step = rng.randrange(count_steps(out), STEPS)
        while process.poll() is None and count_steps(out) < step:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0.0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # also its workers, as in a power failure
    process.wait()
    return process.returncode == -signal.SIGKILL


def count_steps(out: Path) -> int:
    """Return the number of steps in the log of a run."""
    log = out / "log.jsonl"
    return min(log.read_bytes().count(b"\n") if log.exists() else 0, STEPS - 1)


def collect_results(out: Path) -> dict[str, Any]:
    """Return everything that must be identical."""
    folders = [out / "model", max((out / "checkpoints").glob("step-????????"))]
    files = [path for folder in folders for path in sorted(folder.iterdir())]
    files += [out / "skipped.jsonl", out / "metrics.json", out / "data.json"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    log = [{name: line[name] for name in COMPARED if name in line} for line in lines]
    return {str(path.relative_to(out)): path.read_bytes() for path in files} | {"log": log}


def find_differences(expected: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """Return the names of results that differ."""
    return [name for name in sorted({*expected, *actual}) if expected.get(name) != actual.get(name)]


if __name__ == "__main__":
    raise SystemExit(main())
