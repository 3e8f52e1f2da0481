"""Evaluate places of images by nearest neighbors (CLIP Table 17)."""

import pyarrow as pa

from zebra.data.benchmarks.tasks import GeolocationBenchmark
from zebra.evaluators.embeddings import embed_source
from zebra.evaluators.results import TaskResult
from zebra.pretrained.bundle import Bundle
from zebra.protocols.geolocation import DISTANCES_KM, distances_km, find_nearest, score_distances


def evaluate_geolocation(clip: Bundle, benchmark: GeolocationBenchmark) -> TaskResult:
    """Take the place of the most similar image of the gallery as the place of each image."""
    images, gallery = embed_source(clip, benchmark.source), embed_source(clip, benchmark.gallery)
    nearest_N = find_nearest(images.vectors, gallery.vectors)
    place_N2 = benchmark.gallery_place_G2[nearest_N]
    distance_N = distances_km(benchmark.place_N2, place_N2)
    columns = {
        "id": list(images.ids),
        "neighbor": [gallery.ids[index] for index in nearest_N],
        "latitude": place_N2[:, 0],
        "longitude": place_N2[:, 1],
        "distance_km": distance_N,
        **{f"within_{limit}km": distance_N <= limit for limit in DISTANCES_KM},
    }
    return TaskResult(
        benchmark.name,
        "geolocation",
        score_distances(distance_N),
        benchmark.source.digest,
        notes=benchmark.notes,
        predictions=pa.table(columns),
    )
