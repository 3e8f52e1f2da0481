"""`zebra train`: a recipe and flags in, a training run out."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zebra.cli.arguments import parse
from zebra.cli.main import DONE, STOPPED, say
from zebra.cli.progress import TrainingDisplay
from zebra.config.files import read_recipe, recipe_names
from zebra.config.presets import PRESETS, preset
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig

DEFAULT_RECIPE = "tiny"

DESCRIPTION = f"""Train a CLIP on captioned images.

--data takes a folder of images with same-name .txt files, a CSV/TSV/JSONL/Parquet table with an image and one or
more caption columns, tar shards, or a data set that Hugging Face's library saved. Settings come from the defaults, then
the recipe, then the flags below. Several processes, one for each GPU, share a batch when torchrun starts them:
torchrun --nproc-per-node 8 -m zebra train …

Beside the flags below:
  --recipe NAME|FILE   {", ".join(recipe_names())}, or a YAML file (default: {DEFAULT_RECIPE})
  --model NAME         {", ".join(PRESETS)}
  --from MODEL         go on from a trained model: learning rate, epochs and batch follow from the size of the data, and
                       pictures held out decide which weights are kept
  --resume auto|never|CHECKPOINT   auto (the default) goes on with the folder's own run
  --accept-changes     go on although settings, data or versions are not those of the checkpoint
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is settled before the flags: they start from the recipe with the named architecture."""

    start: dict[str, Any]
    resume: str
    accept_changes: bool
    rest: list[str]


def run(words: Sequence[str]) -> int:
    """Train, show progress on standard error, and return the exit code."""
    chosen = choose(words)
    config = parse_config(chosen)
    from zebra.distributed import announced
    from zebra.workflows import train

    if not announced().leads:  # of several processes that torchrun started, the first one speaks
        result = train.run(config, resume=chosen.resume, accept_changes=chosen.accept_changes)
        return DONE if result.finished else STOPPED
    with TrainingDisplay() as display:
        result = train.run(
            config, resume=chosen.resume, accept_changes=chosen.accept_changes, watch=display.update
        )
    if result.already:
        say(
            f"{result.out} holds this very run, finished after {result.steps} steps; its model is {result.out}/model"
        )
        return DONE
    if not result.finished:
        say(
            f"stopped after {result.steps} steps, checkpoint saved; the same command goes on from there",
            error=True,
        )
        return STOPPED
    say(f"trained {result.steps} steps; the model is {result.out}/model")
    if (result.out / "adapter").is_dir():
        say(f"its low-rank additions, as peft reads them: {result.out}/adapter")
    if result.gain:
        kept = f"step {result.gain.kept}" if result.gain.kept else "the start, since nothing did better"
        say(f"kept: {kept}. On pictures that nothing depends on:")
        for difference in result.gain.differences:
            say(f"  {difference}")
    return DONE


def choose(words: Sequence[str]) -> Chosen:
    """Take --recipe, --model and --resume out of the words and read what they name."""
    early = argparse.ArgumentParser(prog="zebra train", add_help=False, allow_abbrev=False)
    early.add_argument("--recipe")
    early.add_argument("--model")
    early.add_argument("--from", dest="start")
    early.add_argument("--resume", default="auto")
    early.add_argument("--accept-changes", action="store_true")
    known, rest = early.parse_known_args(list(words))
    start = read_recipe(known.recipe or DEFAULT_RECIPE) if known.recipe or not known.start else {}
    if known.start is not None:
        start = _plan(known.start, rest) | start
    if known.model is not None:
        start["model"] = unstructure(preset(known.model))
    start |= _length(rest)
    return Chosen(start, known.resume, known.accept_changes, rest)


def _length(words: list[str]) -> dict[str, Any]:
    """Make room for --steps or --epochs, whichever is given: a config has one of them."""
    given = {word.split("=")[0] for word in words}
    if "--epochs" in given and "--steps" not in given:
        return {"steps": None, "epochs": 1.0}
    if "--steps" in given and "--epochs" not in given:
        return {"epochs": None, "steps": 1}
    return {}


def _plan(start: str, words: list[str]) -> dict[str, Any]:
    """Choose settings for a start and the data that the flags describe."""
    if any(word in ("-h", "--help") for word in words):
        return {}
    blank = {"data": "", "out": "", "steps": 1, "finetune": {"start": start}} | _length(words)
    told = parse(TrainConfig, "train", words, default=structure(TrainConfig, blank), description=DESCRIPTION)
    if not told.data:
        say("zebra train: --data must be given (zebra train --help explains)", error=True)
        raise SystemExit(2)
    from zebra.distributed import announced
    from zebra.train import finetune

    low_rank = told.finetune is not None and told.finetune.lora_rank is not None
    plan = finetune.plan(start, told.data, told.data_options, low_rank=low_rank)
    chosen = ", ".join(f"{name} {plan[name]:g}" for name in ("epochs", "batch_size", "lr"))
    if announced().leads:
        say(f"settings for this data: {chosen}; flags change them", error=True)
    return plan


def parse_config(chosen: Chosen) -> TrainConfig:
    """Build the config: recipe first, flags on top; --data and --out must come from one of them."""
    wanted = [name for name in ("data", "out") if name not in chosen.start]
    given = {word.split("=")[0] for word in chosen.rest}
    absent = [f"--{name}" for name in wanted if f"--{name}" not in given]
    helping = any(word in ("-h", "--help") for word in chosen.rest)
    if absent and not helping:
        say(f"zebra train: {' and '.join(absent)} must be given (zebra train --help explains)", error=True)
        raise SystemExit(2)
    default = structure(TrainConfig, chosen.start | dict.fromkeys(wanted, ""), "recipe")
    return parse(TrainConfig, "train", chosen.rest, default=default, description=DESCRIPTION)
