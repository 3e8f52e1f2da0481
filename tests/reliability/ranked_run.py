"""One process of a run: `python ranked_run.py CONFIG [sleep|stop STEP RANK]`, started with torchrun's environment.

In addition to the files of the run, it logs the samples of each step. After step STEP, the rank RANK sleeps forever or
sends itself SIGTERM.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from zebra.config.files import read_train_config
from zebra.errors import ZebraError
from zebra.workflows import train


def main() -> None:
    config, *fault = sys.argv[1:]
    rank = int(os.environ.get("RANK", "0"))
    log = Path(f"{config}.rank{rank}.ids")

    def callback_with_fault(report, _scores):
        with log.open("a") as file:
            file.write(json.dumps([report.step, os.environ.get("WORLD_SIZE", "1"), list(report.batch.ids)]) + "\n")
        if fault[1:] == [str(report.step), str(rank)]:
            if fault[0] == "stop":
                os.kill(os.getpid(), signal.SIGTERM)
            while fault[0] == "sleep":
                time.sleep(1)

    torch.set_num_threads(1)
    try:
        result = train.run(read_train_config(Path(config)), callback=callback_with_fault)
    except ZebraError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.exit(0 if result.is_finished else 75)


if __name__ == "__main__":
    main()
