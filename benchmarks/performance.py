"""Rows of `zebra bench` for docs/performance.md, also with the instructions of older processors.

    python benchmarks/performance.py [MODEL] [--seconds 180] [--isa AVX2 AVX2_VNNI AVX512_CORE AVX512_CORE_VNNI]

Runs `zebra bench --json` in a process of its own, once for every limit of the instructions, which oneDNN, ATen and MKL
read from environment variables and which hold for the peers alike. Without --isa, the processor is not limited. Rows go
to results/performance.jsonl.
"""

import argparse
import json
import os
import subprocess
import sys

from receipt import save_row

LIMITS = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "AVX2_VNNI": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "AVX512_CORE": {"ATEN_CPU_CAPABILITY": "avx512", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
    "AVX512_CORE_VNNI": {"ATEN_CPU_CAPABILITY": "avx512", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
}
"""Limit of oneDNN → that of the other libraries. The processor must have the instructions."""
LAUNCH = """
import sys, torch
library = torch.library.Library("torchvision", "FRAGMENT")  # a CPU build of torch lacks what torchvision expects
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from zebra.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def measure(arguments: list[str], limit: str | None) -> dict[str, object]:
    """Run `zebra bench` with limited instructions and return its document."""
    environment = dict(os.environ)
    if limit is not None:
        environment |= LIMITS[limit] | {"ONEDNN_MAX_CPU_ISA": limit}
    command = [sys.executable, "-c", LAUNCH, "bench", "--json", *arguments]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    return dict(json.loads(output))


def main() -> None:
    """Measure, and store a row for each limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--isa", nargs="+", choices=list(LIMITS), default=[None])
    args = parser.parse_args()
    arguments = [*([args.model] if args.model else []), "--seconds", str(args.seconds)]
    for limit in args.isa:
        save_row("performance", {"isa": limit or "not limited", **measure(arguments, limit)})


if __name__ == "__main__":
    main()
