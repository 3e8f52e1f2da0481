"""`zebra serve`: serve a model and a store over HTTP, by default the demo's."""

import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from zebra.config.demo import DemoConfig
from zebra.config.embed import EmbedConfig
from zebra.config.serve import ServeConfig
from zebra.errors import ConfigError, MissingExtra
from zebra.store import Store

if TYPE_CHECKING:
    from zebra.embed.pipeline import Progress

REQUIRED_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")
UNSEEN_DATASETS = ("unseen-kinds", "zebra")
"""Evaluation datasets with kinds that the demo's model has not seen. They are added to the demo's store."""
QUIZ_DATASETS = ("unseen-kinds", "fine-grained")
DEMO_QUERIES = ("a horse with black and white stripes",)
"""The first example queries for the demo."""


def run(
    config: ServeConfig,
    callback: Callable[["Progress"], None] = lambda _progress: None,
    on_listening: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, and until every accepted request is answered.

    Args:
        callback: Receives the progress while the demo's images are embedded.
        on_listening: Called with the URL once the server listens; requests are answered once /readyz returns 200.

    Raises:
        MissingExtra: The extra `serve` is not installed.
        ConfigError: There is no model, or the address is in use.
        WeightsError: The model is incomplete.
        StoreError: The store is missing or incomplete, or was filled by another model.
        DataError: A quiz dataset is incomplete.
    """
    for package in REQUIRED_PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(package, "zebra serve", "serve")
    # OpenMP threads that wait for others give up their core instead of spinning: the event loop, the decoders and the
    # worker need it. OpenMP reads this when torch is imported, so the imports of torch follow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from zebra.serve.run import run as run_server

    run_server(apply_demo_defaults(config, callback), on_listening)


def apply_demo_defaults(
    config: ServeConfig, callback: Callable[["Progress"], None] = lambda _progress: None
) -> ServeConfig:
    """Return the config with a model.

    If neither model nor store is given, both are the demo's, with quizzes. The demo's images and those of kinds that
    its model has not seen are embedded the first time. If only a store is given, the model is the one that filled it.

    Args:
        callback: Receives the progress while images are embedded.

    Raises:
        ConfigError: There is no model to serve.
        StoreError: There is no store at the given path.
    """
    if config.model is not None:
        return config
    if config.store is not None:
        return replace(config, model=Store.open(Path(config.store)).metadata.model)
    from zebra.workflows import embed

    out = Path(DemoConfig().out)
    model, world, store = out / "model", out / "menagerie", out / "store"
    if not model.is_dir():
        raise ConfigError(
            f"no model to serve: {model} does not exist. Run `zebra demo` first, or give your own with --model and "
            "--store."
        )
    evaluation = world / "evaluation"
    for shards in (world / "train", *(evaluation / name / "test" for name in UNSEEN_DATASETS)):
        if shards.is_dir():
            result = embed.run(
                EmbedConfig(model=str(model), data=str(shards), out=str(store), device=config.device), callback
            )
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
