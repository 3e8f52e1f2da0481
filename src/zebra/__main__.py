"""Entry point of `python -m zebra`, the same as the command `zebra`."""

import sys

from zebra.cli.main import main

sys.exit(main())
