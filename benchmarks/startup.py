"""CPU time from the start of a process to the classes of one image, beside open_clip and transformers.

    python benchmarks/startup.py [--rounds 5] [--before SRC]

Writes a ViT-B/32 with random weights and OpenAI's vocabulary, which open_clip contains, in the layouts of zebra,
open_clip and transformers. Then every program names what is on one photo, by three labels, in a new process with one
thread: `zebra classify` on each layout, `zebra.load` in Python, the shortest script of open_clip, and the pipeline of
transformers. They take turns. Files are in the page cache, and zebra has verified them before; `first` is the run that
verifies them. `parts` are those of `zebra.load` in Python. `--before` adds the src/ of another version of zebra.
The row goes to results/startup.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from receipt import save_row
from zebra.config.export import ExportConfig
from zebra.config.presets import get_preset
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.clip_vocabulary import find_openai_tokenizer
from zebra.workflows import export

LABELS = ["horse", "zebra", "trophy"]
LAYOUTS = ("zebra", "open_clip", "transformers")
# torchvision expects two operators that a CPU build of torch does not have.
SHIM = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
OPEN_CLIP = f"""{SHIM}
import sys
import open_clip
from PIL import Image
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{{sys.argv[1]}}")
tokenizer = open_clip.get_tokenizer(f"local-dir:{{sys.argv[1]}}")
model.eval()
labels = sys.argv[3:]
with torch.no_grad():
    image = model.encode_image(preprocess(Image.open(sys.argv[2])).unsqueeze(0), normalize=True)
    texts = model.encode_text(tokenizer([f"a photo of a {{label}}." for label in labels]), normalize=True)
    scores = (model.logit_scale.exp() * image @ texts.T).softmax(dim=-1)[0]
print(dict(zip(labels, scores.tolist())))
"""
TRANSFORMERS = f"""{SHIM}
import sys
from transformers import pipeline
classify = pipeline("zero-shot-image-classification", model=sys.argv[1], device="cpu")
print(classify(sys.argv[2], candidate_labels=sys.argv[3:], hypothesis_template="a photo of a {{}}."))
"""
PYTHON_API = """
import sys
import zebra
print(zebra.load(sys.argv[1]).classify([sys.argv[2]], sys.argv[3:]))
"""
PARTS = """
import json, sys, time
seconds, last = {}, time.process_time()
def end(part):
    global last
    now = time.process_time()
    seconds[part] = round(now - last, 3)
    last = now
seconds["interpreter"] = round(last, 3)
import gc
gc.disable(); import torch; gc.enable(); end("import torch")
import zebra
zebra.load; end("import zebra.load")
clip = zebra.load(sys.argv[1]); end("load")
clip.class_vectors(sys.argv[3:]); end("labels")
clip.encode_images([sys.argv[2]]); end("image")
print(json.dumps(seconds))
"""


@dataclass(slots=True)
class Program:
    """A command that names what is on an image, and the CPU and wall times of its runs."""

    command: list[str]
    source: str | None = None
    """Folder of zebra's source, if not that of this process."""
    cpu_seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)

    def run(self) -> str:
        """Run the command in a new process, record its times and return its output."""
        environment = dict(os.environ) | ({"PYTHONPATH": self.source} if self.source else {})
        before, start = os.times(), time.perf_counter()
        process = subprocess.run(self.command, env=environment, check=True, capture_output=True, text=True)
        after = os.times()
        self.wall_seconds.append(time.perf_counter() - start)
        self.cpu_seconds.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        return process.stdout


def write_models(folder: Path) -> None:
    """Write one model in three layouts."""
    torch.manual_seed(0)
    tokenizer = find_openai_tokenizer(77, folder)
    assert tokenizer is not None, "install open_clip_torch, which contains OpenAI's vocabulary"
    clip = Bundle(CLIP(get_preset("ViT-B/32")).eval(), tokenizer, Preprocess(image_size=224))
    clip.save(folder / "zebra")
    for layout in ("open_clip", "transformers"):
        export.run(ExportConfig(model=str(folder / "zebra"), format=layout, out=str(folder / layout)))
    for file in folder.glob("*/*"):  # results for recently changed files are not cached
        os.utime(file, (time.time() - 3600,) * 2)


def list_programs(folder: Path, image: Path, before: str | None) -> dict[str, Program]:
    """Return the programs by name."""

    def script(code: str, layout: str) -> list[str]:
        return [sys.executable, "-c", code, str(folder / layout), str(image), *LABELS]

    def command(layout: str) -> list[str]:
        arguments = [str(folder / layout), str(image), "--labels", ",".join(LABELS)]
        return [sys.executable, "-m", "zebra", "classify", *arguments]

    programs = {
        "import torch": Program([sys.executable, "-c", "import torch"]),
        **{f"zebra classify, {layout} folder": Program(command(layout)) for layout in LAYOUTS},
        "zebra.load": Program(script(PYTHON_API, "zebra")),
        "open_clip": Program(script(OPEN_CLIP, "open_clip")),
        "transformers pipeline": Program(script(TRANSFORMERS, "transformers")),
    }
    if before:
        programs["zebra classify before"] = Program(command("zebra"), before)
        programs["zebra.load before"] = Program(script(PYTHON_API, "zebra"), before)
    return programs


def main() -> None:
    """Measure all programs in turns and store one row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", help="src/ of another version of zebra")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temp_dir:
        folder = Path(temp_dir)
        os.environ["ZEBRA_CACHE"] = str(folder / "cache")
        write_models(folder)
        rng = np.random.default_rng(0)
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        noise.resize((640, 480), Image.Resampling.BICUBIC).save(folder / "photo.jpg")
        programs = list_programs(folder, folder / "photo.jpg", args.before)
        first = {}
        for name, program in programs.items():
            program.run()
            first[name] = round(program.cpu_seconds.pop(), 2)
            program.wall_seconds.clear()
        parts = Program([sys.executable, "-c", PARTS, *programs["zebra.load"].command[3:]])
        part_seconds = []
        for _ in range(args.rounds):
            for program in programs.values():
                program.run()
            part_seconds.append(json.loads(parts.run()))
    zebra_seconds = programs["zebra classify, zebra folder"].cpu_seconds
    row = {
        name: {
            "cpu_seconds": round(median(program.cpu_seconds), 2),
            "wall_seconds": round(median(program.wall_seconds), 2),
            "first": first[name],
            "over_zebra_classify": round(
                median(a / b for a, b in zip(program.cpu_seconds, zebra_seconds, strict=True)), 2
            ),
        }
        for name, program in programs.items()
    }
    row["parts"] = {name: round(median(run[name] for run in part_seconds), 3) for name in part_seconds[0]}
    if args.before:
        times = [programs[name].cpu_seconds for name in ("zebra.load before", "zebra.load")]
        row["zebra.load"]["before_over_now"] = round(median(a / b for a, b in zip(*times, strict=True)), 2)
    save_row("startup", {"rounds": args.rounds} | row)


if __name__ == "__main__":
    main()
