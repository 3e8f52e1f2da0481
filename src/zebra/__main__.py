"""Entry point of `python -m zebra`, the same as the command `zebra`."""

from zebra.cli.main import run_and_exit

run_and_exit()
