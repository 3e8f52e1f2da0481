"""Accuracy with the templates that a run chose, against each single template and the paper's default.

    python benchmarks/templates.py runs/demo/model runs/demo/menagerie/evaluation/unseen-kinds

The first argument is a model that `zebra train` wrote, which chose its templates on held-out captions, without a label.
The others are labeled datasets; their own templates are ignored. Each dataset gives a row in results/templates.jsonl.
The chosen templates should be within two points of the best of all that were tried.
"""

import argparse
from pathlib import Path

import zebra
from receipt import save_row
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.embeddings import embed_source
from zebra.pretrained.bundle import Bundle
from zebra.protocols.prompts import load_general_prompts
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.text.templates import DEFAULT_TEMPLATES


def measure(clip: Bundle, benchmark: ClassificationBenchmark) -> dict[str, object]:
    """Return the top-1 accuracy of the chosen templates, of the best single one and of others."""
    images = embed_source(clip, benchmark.source)

    def accuracy(*templates: str) -> float:
        head_CE = clip.class_vectors(benchmark.classnames, templates).numpy()
        return round(classify_zero_shot(images, head_CE).scores()["top1"].value, 4)

    general = load_general_prompts().templates
    alone = {template: accuracy(template) for template in dict.fromkeys((*clip.templates, "{}", *general))}
    best = max(alone, key=alone.__getitem__)
    return {
        "dataset": benchmark.name,
        "images": len(benchmark.source),
        "chosen": list(clip.templates),
        "chosen_top1": accuracy(*clip.templates),
        "best": best,
        "best_top1": alone[best],
        "bare_name_top1": alone["{}"],
        "default_top1": accuracy(*DEFAULT_TEMPLATES),
        "general_top1": accuracy(*general),
        "tried": len(alone),
    }


def main() -> None:
    """Measure each dataset and save a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("datasets", nargs="+")
    args = parser.parse_args()
    clip = zebra.load(args.model)
    for dataset in args.datasets:
        benchmark = load_dataset(dataset)
        assert isinstance(benchmark, ClassificationBenchmark), f"{dataset} has no labels"
        save_row("templates", measure(clip, benchmark))


if __name__ == "__main__":
    main()
