"""The command `zebra serve`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zebra.cli.arguments import HiddenStrs, RepeatedStr, parse_args
from zebra.cli.main import EXIT_OK, echo
from zebra.cli.progress import EmbedProgress
from zebra.config.serve import ServeConfig

API_KEY_VARIABLE = "ZEBRA_API_KEY"
DESCRIPTION = """Serve search and classification over HTTP: a web page at /, and a JSON API documented at /docs.

Without --model and --store it serves the results of `zebra demo`. It accepts connections from this machine only, unless
--host says otherwise. Ctrl-C or SIGTERM stops it after all accepted requests are answered.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ServeConfig):
    """Arguments of `zebra serve`."""

    quiz: RepeatedStr = ()
    """A CLIP_benchmark folder with images for the quiz. Repeat for several."""
    example_queries: HiddenStrs = ()
    api_key: str | None = None
    """Key that requests must send (Authorization: Bearer KEY). Other users can see it; $ZEBRA_API_KEY is private."""
    allow_url_hosts: RepeatedStr = ()
    """Host, or HOST:PORT, from which images may be fetched by https. Repeat for several. Default: none."""
    cors: RepeatedStr = ()
    """Origin whose pages may use the server, such as https://photos.example.org. Repeat for several; "*" allows every
    website. Default: none."""


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
