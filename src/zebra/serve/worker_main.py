"""Entry point of a worker's process; imports torch without collecting garbage."""

import sys

from zebra.gc_pause import pause_gc

if __name__ == "__main__":
    with pause_gc():
        from zebra.serve.worker import main
    main(sys.argv[1:])
