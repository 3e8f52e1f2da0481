"""`zebra train`: a recipe and flags in, a training run out."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.cli.progress import TrainingProgress
from zebra.config.files import list_recipes, read_recipe
from zebra.config.presets import PRESETS, get_preset
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig

DEFAULT_RECIPE = "tiny"

DESCRIPTION = f"""Train a CLIP on captioned images.

--data takes a folder of images with same-name .txt files, a CSV/TSV/JSONL/Parquet table with an image and one or
more caption columns, tar shards, or a data set that Hugging Face's library saved. Settings come from the defaults, then
the recipe, then the flags below. Several processes, one for each GPU, share a batch when torchrun starts them:
torchrun --nproc-per-node 8 -m zebra train …

Beside the flags below:
  --recipe NAME|FILE   {", ".join(list_recipes())}, or a YAML file (default: {DEFAULT_RECIPE})
  --model NAME         {", ".join(PRESETS)}
  --from MODEL         go on from a trained model: learning rate, epochs and batch follow from the size of the data, and
                       pictures held out decide which weights are kept
  --resume auto|never|CHECKPOINT   auto (the default) goes on with the folder's own run
  --accept-changes     go on although settings, data or versions are not those of the checkpoint
"""


@dataclass(frozen=True, slots=True)
class RecipeFlags:
    """What is settled before the flags: they start from the recipe with the named architecture."""

    settings: dict[str, Any]
    resume: str
    accept_changes: bool
    remaining_argv: list[str]


def run(argv: Sequence[str]) -> int:
    """Train, show progress on standard error, and return the exit code."""
    chosen = parse_recipe_flags(argv)
    config = parse_train_config(chosen)
    from zebra.distributed import world_info_from_env
    from zebra.workflows import train

    if (
        not world_info_from_env().is_main_process
    ):  # of several processes that torchrun started, the first one speaks
        result = train.run(config, resume=chosen.resume, accept_changes=chosen.accept_changes)
        return EXIT_OK if result.is_finished else EXIT_RESUMABLE
    with TrainingProgress() as display:
        result = train.run(
            config, resume=chosen.resume, accept_changes=chosen.accept_changes, callback=display.update
        )
    if result.is_up_to_date:
        echo(
            f"{result.out} holds this very run, finished after {result.steps} steps; its model is {result.out}/model"
        )
        return EXIT_OK
    if not result.is_finished:
        echo(
            f"stopped after {result.steps} steps, checkpoint saved; the same command goes on from there",
            err=True,
        )
        return EXIT_RESUMABLE
    echo(f"trained {result.steps} steps; the model is {result.out}/model")
    if (result.out / "adapter").is_dir():
        echo(f"its low-rank additions, as peft reads them: {result.out}/adapter")
    if result.before_after:
        kept = (
            f"step {result.before_after.selected_step}"
            if result.before_after.selected_step
            else "the start, since nothing did better"
        )
        echo(f"kept: {kept}. On pictures that nothing depends on:")
        for difference in result.before_after.deltas:
            echo(f"  {difference}")
    return EXIT_OK


def parse_recipe_flags(argv: Sequence[str]) -> RecipeFlags:
    """Take --recipe, --model and --resume out of the words and read what they name."""
    early = argparse.ArgumentParser(prog="zebra train", add_help=False, allow_abbrev=False)
    early.add_argument("--recipe")
    early.add_argument("--model")
    early.add_argument("--from", dest="start")
    early.add_argument("--resume", default="auto")
    early.add_argument("--accept-changes", action="store_true")
    known, rest = early.parse_known_args(list(argv))
    start = read_recipe(known.recipe or DEFAULT_RECIPE) if known.recipe or not known.start else {}
    if known.start is not None:
        start = _fine_tuning_settings(known.start, rest) | start
    if known.model is not None:
        start["model"] = unstructure(get_preset(known.model))
    start |= _duration_settings(rest)
    return RecipeFlags(start, known.resume, known.accept_changes, rest)


def _duration_settings(argv: list[str]) -> dict[str, Any]:
    """Make room for --steps or --epochs, whichever is given: a config has one of them."""
    given = {word.split("=")[0] for word in argv}
    if "--epochs" in given and "--steps" not in given:
        return {"steps": None, "epochs": 1.0}
    if "--steps" in given and "--epochs" not in given:
        return {"epochs": None, "steps": 1}
    return {}


def _fine_tuning_settings(init_from: str, argv: list[str]) -> dict[str, Any]:
    """Choose settings for a start and the data that the flags describe."""
    if any(word in ("-h", "--help") for word in argv):
        return {}
    blank = {"data": "", "out": "", "steps": 1, "finetune": {"init_from": init_from}} | _duration_settings(
        argv
    )
    told = parse_args(
        TrainConfig, "train", argv, default=structure(TrainConfig, blank), description=DESCRIPTION
    )
    if not told.data:
        echo("zebra train: --data must be given (zebra train --help explains)", err=True)
        raise SystemExit(2)
    from zebra.distributed import world_info_from_env
    from zebra.train import finetune

    low_rank = told.finetune is not None and told.finetune.lora_rank is not None
    plan = finetune.suggest_settings(init_from, told.data, told.data_options, use_lora=low_rank)
    chosen = ", ".join(f"{name} {plan[name]:g}" for name in ("epochs", "batch_size", "lr"))
    if world_info_from_env().is_main_process:
        echo(f"settings for this data: {chosen}; flags change them", err=True)
    return plan


def parse_train_config(recipe_flags: RecipeFlags) -> TrainConfig:
    """Build the config: recipe first, flags on top; --data and --out must come from one of them."""
    wanted = [name for name in ("data", "out") if name not in recipe_flags.settings]
    given = {word.split("=")[0] for word in recipe_flags.remaining_argv}
    absent = [f"--{name}" for name in wanted if f"--{name}" not in given]
    helping = any(word in ("-h", "--help") for word in recipe_flags.remaining_argv)
    if absent and not helping:
        echo(f"zebra train: {' and '.join(absent)} must be given (zebra train --help explains)", err=True)
        raise SystemExit(2)
    default = structure(TrainConfig, recipe_flags.settings | dict.fromkeys(wanted, ""), "recipe")
    return parse_args(
        TrainConfig, "train", recipe_flags.remaining_argv, default=default, description=DESCRIPTION
    )
