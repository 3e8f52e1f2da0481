"""Classify images: `python -m zebra.lite FOLDER IMAGE… --labels horse cat`."""

import argparse
import sys

import zebra.lite
from zebra.errors import ZebraError


def main() -> None:
    """Print the best label of each image and its score."""
    parser = argparse.ArgumentParser(prog="python -m zebra.lite", description="Classify images without torch.")
    parser.add_argument("folder", help="what `zebra export MODEL --format onnx --out DIR` wrote")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--labels", nargs="+", required=True, help="class names")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or int8")
    args = parser.parse_args()
    try:
        ranked = zebra.lite.load(args.folder, args.precision).classify(args.images, args.labels)
    except ZebraError as error:
        sys.exit(str(error))
    for image, (best, *_) in zip(args.images, ranked, strict=True):
        sys.stdout.write(f"{image}\t{best.label}\t{best.score:.3f}\n")


if __name__ == "__main__":
    main()
