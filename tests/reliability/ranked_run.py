"""One of the processes of a run: `python ranked_run.py CONFIG [sleep|stop STEP RANK]`, started as torchrun starts it.

Beside the run's own files it writes down which samples it had in which step. After a step, one rank may fall asleep
for good, or ask itself to stop.
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
    config, *told = sys.argv[1:]
    rank = int(os.environ.get("RANK", "0"))
    log = Path(f"{config}.rank{rank}.ids")

    def watch(report, _checks):
        with log.open("a") as file:
            file.write(
                json.dumps([report.step, os.environ.get("WORLD_SIZE", "1"), list(report.batch.ids)]) + "\n"
            )
        if told[1:] == [str(report.step), str(rank)]:
            if told[0] == "stop":
                os.kill(os.getpid(), signal.SIGTERM)
            while told[0] == "sleep":
                time.sleep(1)

    torch.set_num_threads(1)
    try:
        result = train.run(read_train_config(Path(config)), callback=watch)
    except ZebraError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.exit(0 if result.is_finished else 75)


if __name__ == "__main__":
    main()
