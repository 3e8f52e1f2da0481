"""`zebra serve`: search and classification over HTTP, with a page for people."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from zebra.cli.arguments import RepeatedStr, parse_args
from zebra.cli.embed import EmbedProgress
from zebra.cli.main import EXIT_OK, echo
from zebra.config.serve import BatchingConfig, ServeConfig
from zebra.errors import MissingExtra

API_KEY_VARIABLE = "ZEBRA_API_KEY"
DESCRIPTION = """Answer over HTTP: a page for people at /, and JSON as described at /docs.

Without --model and --store it serves what zebra demo made. It listens to this machine alone unless --host says
otherwise, and stops on Ctrl-C or SIGTERM once everything that was accepted is answered.
"""


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra serve` is told."""

    model: str | None = None
    """A model of any layout; the one that filled the store if it is left out."""
    store: str | None = None
    """A store of zebra embed, to be searched."""
    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 lets other machines in."""
    port: int = 8000
    """0 takes a free one."""
    quiz: RepeatedStr = ()
    """A CLIP_benchmark folder that people can be asked about; several by repeating it."""
    api_key: str | None = None
    """What every request has to bring as Authorization: Bearer KEY. Other users of this machine see it here; the
    environment variable ZEBRA_API_KEY keeps it to yourself."""
    allow_urls: str = ""
    """Hosts that pictures may be fetched from by https, separated by commas; none by default."""
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    """How requests share the model."""


def run(argv: Sequence[str]) -> int:
    """Serve until told to stop."""
    told = parse_args(Args, "serve", argv, description=DESCRIPTION)
    config = ServeConfig(
        model=told.model,
        store=told.store,
        host=told.host,
        port=told.port,
        quiz=told.quiz,
        api_key=told.api_key or os.environ.get(API_KEY_VARIABLE) or None,
        allow_url_hosts=tuple(host.strip().lower() for host in told.allow_urls.split(",") if host.strip()),
        batching=told.batching,
    )
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtra(package, "zebra serve", "serve")
    # A thread that waits for the others of a pass gives its core away, instead of spinning on it: the network, the
    # decoders and other processes need it. OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from zebra.serve.run import run as serve
    from zebra.workflows.serve import apply_demo_defaults

    with EmbedProgress() as display:
        config = apply_demo_defaults(config, display.show)
    serve(config, lambda address: echo(f"{address}  (Ctrl-C stops)", err=True))
    return EXIT_OK
