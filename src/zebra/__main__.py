"""`python -m zebra` is the command `zebra`."""

import sys

from zebra.cli.main import main

sys.exit(main())
