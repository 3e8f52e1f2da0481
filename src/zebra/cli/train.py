"""The command `zebra train`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, EXIT_USAGE, echo
from zebra.cli.progress import TrainingProgress
from zebra.config.files import list_recipes, read_recipe
from zebra.config.presets import PRESETS, get_preset
from zebra.config.structure import structure, unstructure
from zebra.config.train import TrainConfig
from zebra.data.ignored import format_ignored

if TYPE_CHECKING:
    from zebra.data.sources import Source
    from zebra.evaluators.held_out import HeldOutResult

DEFAULT_RECIPE = "tiny"

DESCRIPTION = f"""Train a CLIP model on captioned images.

--data takes a folder of images with .txt captions of the same name; a CSV, TSV, JSONL or Parquet table with an image
column and one or more caption columns; tar shards; or a Hugging Face dataset on disk. Flags override the recipe, and
the recipe overrides the defaults. To train on several GPUs, start one process per GPU with torchrun:
torchrun --nproc-per-node 8 -m zebra train …

Further flags:
  --recipe NAME|FILE   {", ".join(list_recipes())}, or a YAML file (default: {DEFAULT_RECIPE})
  --model NAME         {", ".join(PRESETS)};
                       zebra export writes a ResNet for open_clip and ONNX, a ViT for transformers too
  --from MODEL         fine-tune a pretrained model; learning rate, epochs and batch size are chosen by the size of the
                       data, and held-out images decide which weights are kept
  --resume auto|never|CHECKPOINT   auto (default): continue the run in --out if there is one
  --accept-changes     resume although settings, data or versions differ from the checkpoint
"""


@dataclass(frozen=True, slots=True)
class RecipeFlags:
    """Flags that are evaluated before all others, because they set the defaults of these."""

    settings: dict[str, Any]
    """The recipe with the architecture of --model."""
    resume: str
    accept_changes: bool
    remaining_argv: list[str]
    is_fine_tuning: bool


def run(argv: Sequence[str]) -> int:
    """Train with progress on standard error; return 75 if interrupted."""
    recipe_flags = parse_recipe_flags(argv)
    config = parse_train_config(recipe_flags)
    from zebra.distributed import world_info_from_env
    from zebra.workflows import train

    resume, accept_changes = recipe_flags.resume, recipe_flags.accept_changes
    if not world_info_from_env().is_main_process:
        result = train.run(config, resume=resume, accept_changes=accept_changes)
        return EXIT_OK if result.is_finished else EXIT_RESUMABLE
    _announce(config, is_fine_tuning=recipe_flags.is_fine_tuning)
    echo(f"reading {config.data}", err=True)
    with TrainingProgress() as progress:
        result = train.run(
            config, resume=resume, accept_changes=accept_changes, callback=progress.show, data_callback=_show_source
        )
    if result.is_up_to_date:
        echo(f"{result.out} already holds this run, finished after {result.steps} steps: {result.out}/model")
        return EXIT_OK
    if not result.is_finished:
        echo(
            f"interrupted after {result.steps} steps, checkpoint saved. Run the same command again to continue.",
            err=True,
        )
        return EXIT_RESUMABLE
    echo(f"trained {result.steps} steps; model: {result.out}/model")
    if (result.out / "adapter").is_dir():
        echo(f"LoRA adapter for peft: {result.out}/adapter")
    if result.held_out:
        echo_held_out(result.held_out)
    if result.before_after:
        is_trained = result.before_after.selected_step
        selected = result.before_after.selection
        selected = selected if is_trained else "the initial model, because no later weights were better"
        echo(f"selected: {selected}. On held-out images, before → after:")
        for delta in result.before_after.deltas:
            echo(f"  {delta}")
    return EXIT_OK


def _announce(config: TrainConfig, *, is_fine_tuning: bool) -> None:
    """Print the chosen settings of fine-tuning, and that transformers has no such model if that is so."""
    from zebra.pretrained.transformers.config import is_transformers_model

    if is_fine_tuning:
        names = ("epochs" if config.steps is None else "steps", "batch_size", "lr")
        values = ", ".join(f"{name} {getattr(config, name):g}" for name in names)
        echo(f"settings for this data: {values}. Flags override them.", err=True)
    elif not is_transformers_model(config.model):
        layouts = "ONNX" if config.model.vision.kind == "naflex" else "open_clip and ONNX"
        echo(
            f"note: `zebra export` can write this model for {layouts}, but not for transformers, which has no "
            f"CLIP with a {config.model.vision.kind} image tower like this. With --model tiny-vit it can.",
            err=True,
        )


def _show_source(source: "Source") -> None:
    """Print what the run trains on: reading it and learning a tokenizer may take minutes before the first step."""
    echo(f"training on {len(source):,} samples of {source.name}", err=True)
    if source.ignored:
        echo(f"{source.name}: {format_ignored(source.ignored)}", err=True)


def echo_held_out(result: "HeldOutResult") -> None:
    """Print recall on the held-out pairs and the templates that were chosen on them."""
    to_text, to_image = (result.scores[f"{name}_recall@1"] for name in ("image_to_text", "text_to_image"))
    echo(
        f"{result.num_images:,} held-out images: recall@1 {to_text.value:.1%} [{to_text.low:.1%}, {to_text.high:.1%}] "
        f"of captions, {to_image.value:.1%} [{to_image.low:.1%}, {to_image.high:.1%}] of images"
    )
    if result.templates:
        echo(f"prompt templates that suit this model: {' | '.join(result.templates.templates)}")


def parse_recipe_flags(argv: Sequence[str]) -> RecipeFlags:
    """Take --recipe, --model, --from, --resume and --accept-changes out of `argv` and read what they name."""
    parser = argparse.ArgumentParser(prog="zebra train", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--model")
    parser.add_argument("--from", dest="init_from")
    parser.add_argument("--resume", default="auto")
    parser.add_argument("--accept-changes", action="store_true")
    flags, remaining = parser.parse_known_args(list(argv))
    has_recipe = flags.recipe or not flags.init_from
    settings = read_recipe(flags.recipe or DEFAULT_RECIPE) if has_recipe else {}
    if flags.init_from is not None:
        settings = _fine_tuning_settings(flags.init_from, settings, remaining) | settings
    if flags.model is not None:
        settings["model"] = unstructure(get_preset(flags.model))
    settings |= _duration_settings(remaining)
    return RecipeFlags(settings, flags.resume, flags.accept_changes, remaining, flags.init_from is not None)


def _duration_settings(argv: list[str]) -> dict[str, Any]:
    """Return defaults for --steps and --epochs, of which a config has exactly one, if one of them is given."""
    flags = _flag_names(argv)
    if "epochs" in flags and "steps" not in flags:
        return {"steps": None, "epochs": 1.0}
    if "steps" in flags and "epochs" not in flags:
        return {"epochs": None, "steps": 1}
    return {}


def _fine_tuning_settings(init_from: str, recipe: dict[str, Any], argv: list[str]) -> dict[str, Any]:
    """Choose settings for fine-tuning on the data that recipe and flags describe; they may give its length too."""
    if _has_help_flag(argv):
        return {}
    minimal: dict[str, Any] = {"data": "", "out": "", "finetune": {"init_from": init_from}}
    minimal |= {} if recipe.keys() & {"steps", "epochs"} else {"steps": 1}
    default = structure(TrainConfig, minimal | recipe | _duration_settings(argv))
    config = parse_args(TrainConfig, "train", argv, default=default, description=DESCRIPTION)
    if not config.data:
        echo("zebra train: --data is missing. See zebra train --help.", err=True)
        raise SystemExit(EXIT_USAGE)
    from zebra.train import finetune

    given = {
        name: getattr(config, name)
        for name in ("steps", "epochs", "batch_size", "rehearse", "rehearse_fraction")
        if name in recipe or name in _flag_names(argv)
    }
    use_lora = config.finetune is not None and config.finetune.lora_rank is not None
    return finetune.suggest_settings(
        init_from, config.data, config.data_options, use_lora=use_lora, device=config.device, **given
    )


def _flag_names(argv: list[str]) -> set[str]:
    """Return the names of the flags as those of config fields; --batch-size and --batch_size are one."""
    return {arg.split("=")[0].removeprefix("--").replace("-", "_") for arg in argv if arg.startswith("--")}


def parse_train_config(recipe_flags: RecipeFlags) -> TrainConfig:
    """Build the config from recipe and flags; exit with code 2 if neither gives --data and --out."""
    required = [name for name in ("data", "out") if name not in recipe_flags.settings]
    flags = _flag_names(recipe_flags.remaining_argv)
    missing = [f"--{name}" for name in required if name not in flags]
    if missing and not _has_help_flag(recipe_flags.remaining_argv):
        verb = "is" if len(missing) == 1 else "are"
        echo(f"zebra train: {' and '.join(missing)} {verb} missing. See zebra train --help.", err=True)
        raise SystemExit(EXIT_USAGE)
    default = structure(TrainConfig, recipe_flags.settings | dict.fromkeys(required, ""), "recipe")
    return parse_args(TrainConfig, "train", recipe_flags.remaining_argv, default=default, description=DESCRIPTION)


def _has_help_flag(argv: list[str]) -> bool:
    return any(arg in ("-h", "--help") for arg in argv)
