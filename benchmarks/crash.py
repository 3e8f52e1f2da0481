"""Does a run that is killed at any moment end with the same bits as one that is not?

    python benchmarks/crash.py [--trials 50] [--kills 2] [--seed 0] [--keep]

One run of a small CLIP on drawn pictures (averaged weights, checks, a few broken pictures among the samples) goes
through undisturbed. Then every trial starts the same run in a folder of its own, kills it with SIGKILL, starts it
again, kills it again, and lets it end. Trials take turns in where they kill:

    training    a random time after a random step
    saving      when the k-th file of a checkpoint is opened for writing
    renaming    when the k-th file or folder takes its final name
    purging     when the k-th file or folder of an old checkpoint is removed

The last three are found by an audit hook that the killed process carries; k is random. Afterwards everything that
counts must be identical: every byte of the model folder and of the last checkpoint (weights, averaged weights,
optimizer, generators), the list of skipped samples, the scores, and the journal's numbers.
Leaves with 1 if any trial differs, or if one of the four never struck. The outcome goes to results/crash.jsonl.
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

from receipt import keep

PHASES = ("training", "saving", "renaming", "purging")
EVENTS = {"saving": ("open",), "renaming": ("os.rename",), "purging": ("os.remove", "os.rmdir")}
COMPARED = ("step", "samples", "loss", "lr", "logit_scale", "grad_norm", "batch_accuracy", "eval")
STEPS = 60
PICTURES = 240
BROKEN = (17, 101, 160)
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
    inside_of_rmtree = event != "open" and not os.path.isabs(path)  # it names things by their last part
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
    """Run the trials, say what differed, and keep the row."""
    told = arguments()
    home = Path(tempfile.mkdtemp(prefix="crash-"))
    os.environ["ZEBRA_CACHE"] = str(home / "cache")
    draw(home / "world")
    through(home, home / "undisturbed")
    truth = outcome(home / "undisturbed")
    dice = random.Random(told.seed)
    killed: Counter[str] = Counter()
    identical = 0
    for number in range(told.trials):
        phase = PHASES[number % len(PHASES)]
        out = home / f"trial-{number}"
        kills = sum(kill_once(home, out, phase, dice) for _ in range(told.kills))
        through(home, out)
        wrong = differing(truth, outcome(out))
        killed[phase] += kills
        identical += not wrong
        print(
            f"trial {number + 1}: {kills} kills while {phase}: {wrong or 'identical'}",
            flush=True,
        )
        if not wrong:
            shutil.rmtree(out)
    row = {"trials": told.trials, "identical": identical, "kills": dict(killed), "seed": told.seed}
    print(f"{identical} of {told.trials} identical; kills: {dict(killed)}")
    if told.keep:
        keep("crash", row)
    if identical < told.trials:
        print(f"left for inspection: {home}")
        return 1
    if unharmed := [phase for phase in PHASES[: told.trials] if not killed[phase]]:
        print(f"not one kill while {', '.join(unharmed)}: nothing is shown for that; take more trials")
        return 1
    shutil.rmtree(home)
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--kills", type=int, default=2, help="of one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="write the row to results/crash.jsonl")
    return parser.parse_args()


def draw(world: Path) -> None:
    """Draw pictures of coloured shapes with captions, a few of them broken, and a set for the checks."""
    from PIL import Image, ImageDraw

    from zebra.data.benchmarks.writer import write_classification
    from zebra.data.shard_writer import ShardWriter

    dice = random.Random(0)
    kinds = [(colour, shape) for colour in ("red", "green", "blue", "gray") for shape in ("disc", "box")]

    def picture(colour: str, shape: str) -> bytes:
        image = Image.new("RGB", (40, 36), (dice.randrange(200, 256),) * 3)
        pen, left, top = ImageDraw.Draw(image), dice.randrange(12), dice.randrange(10)
        (pen.ellipse if shape == "disc" else pen.rectangle)((left, top, left + 22, top + 20), fill=colour)
        file = io.BytesIO()
        image.save(file, "JPEG")
        return file.getvalue()

    with ShardWriter(world / "train", samples_per_shard=50) as shards:
        for number in range(PICTURES):
            colour, shape = kinds[dice.randrange(len(kinds))]
            data = picture(colour, shape)
            data = data[: len(data) // 2] if number in BROKEN else data
            shards.write(f"{number:05d}", {"jpg": data, "txt": f"a {colour} {shape}".encode()})
    labels = [number % len(kinds) for number in range(80)]
    samples = [(picture(*kinds[label]), "jpg", label) for label in labels]
    write_classification(
        world / "check", samples, [f"{colour} {shape}" for colour, shape in kinds], ["a {c}"]
    )


def command(home: Path, out: Path) -> list[str]:
    """Say the words of the run."""
    data = (
        "--data",
        str(home / "world" / "train"),
        "--out",
        str(out),
        "--eval-sets",
        str(home / "world" / "check"),
    )
    return ["train", *data, *RUN]


def through(home: Path, out: Path) -> None:
    """Run to the end."""
    done = subprocess.run(
        [sys.executable, "-m", "zebra", *command(home, out)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the run in {out} ended with {done.returncode}:\n{done.stderr}")


def kill_once(home: Path, out: Path, phase: str, dice: random.Random) -> bool:
    """Start or go on with a run and kill it; False if it ended before that."""
    nth = dice.randrange(1, {"saving": 60, "renaming": 25, "purging": 60, "training": 2}[phase])
    events = ",".join(EVENTS.get(phase, ("none",)))
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, phase, events, str(nth), str(out), *command(home, out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if phase == "training":
        step = dice.randrange(steps_of(out), STEPS)
        while process.poll() is None and steps_of(out) < step:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=dice.uniform(0.0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its workers as well, as a machine that loses power would
    process.wait()
    return process.returncode == -signal.SIGKILL


def steps_of(out: Path) -> int:
    """Count the steps in a run's journal."""
    journal = out / "log.jsonl"
    return min(journal.read_bytes().count(b"\n") if journal.exists() else 0, STEPS - 1)


def outcome(out: Path) -> dict[str, Any]:
    """Gather what has to be identical."""
    folders = [out / "model", max((out / "checkpoints").glob("step-????????"))]
    files = [path for folder in folders for path in sorted(folder.iterdir())]
    files += [out / "skipped.jsonl", out / "metrics.json", out / "data.json"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    journal = [{name: line[name] for name in COMPARED if name in line} for line in lines]
    return {str(path.relative_to(out)): path.read_bytes() for path in files} | {"journal": journal}


def differing(truth: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Name what is not the same."""
    return [name for name in sorted({*truth, *found}) if truth.get(name) != found.get(name)]


if __name__ == "__main__":
    raise SystemExit(main())
