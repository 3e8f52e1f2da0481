"""The command `zebra clusters STORE`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import StoreArg, parse_args
from zebra.cli.main import EXIT_OK, echo, shorten_path
from zebra.config.clusters import ClustersConfig

if TYPE_CHECKING:
    from zebra.report.clusters import ClusterSummary
    from zebra.workflows.clusters import ClustersResult

DESCRIPTION = """Group the images of a store, and name the groups.

Names are words of the captions, or of a file with a word or phrase per line. Each line has the number of images, the
share of outliers among them, the name and further words, and the image nearest to the center:
  zebra clusters store --page clusters.html
  zebra clusters store --num-clusters 20 --words animals.txt --column cluster
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ClustersConfig):
    """Arguments of `zebra clusters`."""

    store: StoreArg
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Cluster and print a line per cluster."""
    args = parse_args(Args, "clusters", argv, description=DESCRIPTION)
    from zebra.workflows import clusters

    result = clusters.run(args)
    for note in result.notes:
        echo(f"zebra clusters: {note}", err=True)
    if args.json:
        echo(json.dumps(_to_json(args, result), indent=1))
    else:
        width = max(len(cluster.name) for cluster in result.clusters)
        for cluster in result.clusters:
            echo(_format_cluster(cluster, width))
        echo(f"{result.num_images:,} images in {len(result.clusters):,} clusters", err=True)
    for label, target in (("table", args.out), ("page", args.page), ("column", args.column)):
        if target:
            echo(f"{label}: {target}", err=True)
    return EXIT_OK


def _to_json(args: Args, result: "ClustersResult") -> dict[str, object]:
    return {
        "store": args.store,
        "images": result.num_images,
        "clusters": [
            {
                "cluster": number,
                "name": cluster.name,
                "words": list(cluster.words),
                "size": cluster.size,
                "cohesion": round(cluster.mean_cosine, 6),
                "outliers": cluster.num_outliers,
                "nearest": [
                    {**row, "cosine": round(cosine, 6)}
                    for row, cosine in zip(cluster.nearest, cluster.nearest_cosines, strict=True)
                ],
            }
            for number, cluster in enumerate(result.clusters, 1)
        ],
    }


def _format_cluster(cluster: "ClusterSummary", width: int) -> str:
    in_name = re.sub(r" \d+$", "", cluster.name).split(", ")
    others = [word for word in cluster.words if word not in in_name]
    words = f"({', '.join(others)})  " if others else ""
    share = cluster.num_outliers / cluster.size
    nearest = shorten_path(str(cluster.nearest[0]["path"]))
    return f"{cluster.size:7,}  {share:5.1%}  {cluster.name:<{width}}  {words}{nearest}"
