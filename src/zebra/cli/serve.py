"""`zebra serve`: classification and search over HTTP, with a web page."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zebra.cli.arguments import HiddenStrs, RepeatedStr, parse_args
from zebra.cli.embed import EmbedProgress
from zebra.cli.main import EXIT_OK, echo
from zebra.config.serve import ServeConfig

API_KEY_VARIABLE = "ZEBRA_API_KEY"
DESCRIPTION = """Serve a model and a store over HTTP: a web page at /, JSON routes as described at /docs.

Without --model and --store, serve what `zebra demo` created. The server listens on this machine only, unless --host is
given. Ctrl-C or SIGTERM stops it after every accepted request is answered.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ServeConfig):
    """Options of `zebra serve`."""

    quiz: RepeatedStr = ()
    """A CLIP_benchmark folder with images for the quiz; repeat the flag for more."""
    example_queries: HiddenStrs = ()
    api_key: str | None = None
    """Key that every request must send as Authorization: Bearer KEY. Other users of this machine can read the flag;
    they cannot read the environment variable ZEBRA_API_KEY."""
    allow_url_hosts: RepeatedStr = ()
    """A host, or HOST:PORT, from which images may be fetched by https; repeat the flag for more. None by default."""


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    config = parse_args(Args, "serve", argv, description=DESCRIPTION)
    config = replace(config, api_key=config.api_key or os.environ.get(API_KEY_VARIABLE) or None)
    from zebra.workflows import serve

    with EmbedProgress() as progress:

        def print_url(url: str) -> None:
            progress.stop()
            echo(f"{url}  (Ctrl-C stops)", err=True)

        serve.run(config, progress.show, print_url)
    return EXIT_OK
