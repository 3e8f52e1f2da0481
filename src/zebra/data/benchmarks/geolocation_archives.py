"""Images with coordinates in a table, and a gallery of such images."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.archive_splits import SplitFiles, find_split_paths
from zebra.data.benchmarks.tasks import GeolocationBenchmark
from zebra.data.benchmarks.video_archives import read_text_rows
from zebra.data.image_source import hash_values, open_image_files
from zebra.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class GeolocationArchive:
    """Images with a table per split, and a gallery with a table of its own.

    Images of the gallery that are not on disk are left out and counted: they are links, of which fewer work every year.
    The evaluated images must be complete.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    image_dir: str
    gallery_table: str
    gallery_image_dir: str
    id_column: str = "IMG_ID"
    """Path of the image below its folder."""
    latitude_column: str = "LAT"
    longitude_column: str = "LON"
    kind: Literal["coordinates"] = "coordinates"

    def read(self, root: Path, split: str) -> GeolocationBenchmark:
        """Read one split; raise DataError if a table is malformed, an image is missing or the gallery is empty."""
        folder = root / self.folder
        (table,) = find_split_paths(folder, self.splits, split)
        paths, place_N2 = self._read_places(table, folder / self.image_dir)
        gallery_table = folder / self.gallery_table
        if not gallery_table.is_file():
            raise DataError(f"{folder} lacks {self.gallery_table}, the gallery whose places are the possible answers")
        gallery_paths, gallery_place_G2 = self._read_places(gallery_table, folder / self.gallery_image_dir)
        present_G = np.array([path.is_file() for path in gallery_paths], np.bool_)
        num_missing = int((~present_G).sum())
        if not present_G.any():
            raise DataError(f"{folder / self.gallery_image_dir} has none of the {num_missing:,} images of the gallery")
        notes = [f"gallery of {int(present_G.sum()):,} images; scores compare only with those on the same gallery"]
        if num_missing:
            notes.append(f"{num_missing:,} images of the gallery are not on disk and are left out")
        present = [path for path, is_present in zip(gallery_paths, present_G, strict=True) if is_present]
        images, gallery = open_image_files(folder, paths), open_image_files(folder, present)
        digest = hash_values(images.digest, gallery.digest, place_N2.tolist(), gallery_place_G2[present_G].tolist())
        return GeolocationBenchmark(
            folder.name,
            replace(images, digest=digest),
            place_N2,
            gallery,
            gallery_place_G2[present_G],
            notes=tuple(notes),
        )

    def _read_places(self, table: Path, image_dir: Path) -> tuple[list[Path], NDArray[np.float64]]:
        paths, places = [], []
        for line, row in read_text_rows(table, (self.id_column, self.latitude_column, self.longitude_column)):
            try:
                latitude, longitude = float(row[self.latitude_column]), float(row[self.longitude_column])
            except ValueError as error:
                raise DataError(f"{table}:{line}: {error}. Correct the line") from error
            if not (math.isfinite(longitude) and abs(latitude) <= 90 and abs(longitude) <= 360):
                raise DataError(f"{table}:{line}: {latitude}, {longitude} is no place on Earth. Correct the line")
            paths.append(image_dir / row[self.id_column])
            places.append((latitude, longitude))
        if not paths:
            raise DataError(f"{table} has no images. Unpack the archive again")
        return paths, np.array(places)
