"""`zebra serve`: what the user names, or what a demo left behind, in; a model and a store that can be served out."""

from dataclasses import replace
from pathlib import Path

from zebra.config.embed import EmbedConfig
from zebra.config.menagerie import DemoConfig
from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError
from zebra.store import Store
from zebra.workflows import embed

UNSEEN_DATASETS = ("unseen-kinds", "zebra")
"""Sets of kinds that the demo's model never saw: they lie among the pictures that it learned from, to be found."""
QUIZ_DATASETS = ("unseen-kinds", "fine-grained")
DEMO_QUERIES = ("a horse with black and white stripes",)
"""The first text to try on a demo."""
NUM_EXAMPLES = 6
MAX_CAPTION_ROWS = 2000
"""Rows that examples are taken from."""


def apply_demo_defaults(
    config: ServeConfig, callback: embed.EmbedCallback = lambda _tally: None
) -> ServeConfig:
    """Fill in what was left out.

    Without model and store, both are the demo's, with quizzes; its pictures and those of kinds that it never saw are
    embedded the first time. With a store alone, the model is the one that filled it.

    Raises:
        ConfigError: There is nothing to serve.
        StoreError: There is no store where one is named.
    """
    if config.model is not None:
        return config
    if config.store is not None:
        return replace(config, model=Store.open(Path(config.store)).metadata.model)
    out = Path(DemoConfig().out)
    model, world, store = out / "model", out / "menagerie", out / "store"
    if not model.is_dir():
        raise ConfigError(
            f"nothing to serve: there is no model in {model}. Run zebra demo first, or name your own with --model and "
            "--store"
        )
    evaluation = world / "evaluation"
    for shards in (world / "train", *(evaluation / name / "test" for name in UNSEEN_DATASETS)):
        if shards.is_dir():
            result = embed.run(EmbedConfig(model=str(model), data=str(shards), out=str(store)), callback)
            if not result.finished:
                raise KeyboardInterrupt
    quizzes = tuple(str(evaluation / name) for name in QUIZ_DATASETS if (evaluation / name).is_dir())
    return replace(
        config,
        model=str(model),
        store=str(store) if store.is_dir() else None,
        quiz=config.quiz or quizzes,
        example_queries=config.example_queries or DEMO_QUERIES,
    )


def example_captions(store_path: Path) -> tuple[str, ...]:
    """Return a few captions of a store, short ones of its beginning, as texts to try."""
    found: dict[str, None] = {}
    rows = 0
    for batch in Store.open(store_path).scan(["caption"]):
        found |= dict.fromkeys(text.strip() for text in batch["caption"].to_pylist() if text and text.strip())
        rows += batch.num_rows
        if rows >= MAX_CAPTION_ROWS:
            break
    short = sorted(found, key=len)[: max(NUM_EXAMPLES, len(found) // 4)]
    return tuple(short[:: max(1, len(short) // NUM_EXAMPLES)][:NUM_EXAMPLES])
