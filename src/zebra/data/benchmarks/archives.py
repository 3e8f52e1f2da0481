"""Readers of evaluation datasets in their authors' archive formats.

A format is a value: the files of each split, and how to read them. Folder names are those of torchvision, so existing
copies are found. Nothing is unpickled.
"""

from zebra.data.benchmarks.action_archives import ActionArchive
from zebra.data.benchmarks.binary_archives import CifarArchive, IdxArchive, NumpyArchive, Stl10Archive
from zebra.data.benchmarks.frame_set_archives import FrameSetArchive
from zebra.data.benchmarks.geolocation_archives import GeolocationArchive
from zebra.data.benchmarks.grouped_archives import FactorArchive, PatternArchive
from zebra.data.benchmarks.label_lists import LabelListArchive
from zebra.data.benchmarks.lexicon_archives import LexiconArchive
from zebra.data.benchmarks.listed_archives import (
    ClassFolderArchive,
    LabelTableArchive,
    ListFileArchive,
    PixelTableArchive,
)
from zebra.data.benchmarks.matlab_archives import MatlabArchive
from zebra.data.benchmarks.video_archives import ClipTableArchive
from zebra.data.benchmarks.watermark_archives import WatermarkArchive

ArchiveFormat = (
    CifarArchive
    | IdxArchive
    | Stl10Archive
    | NumpyArchive
    | ListFileArchive
    | ClassFolderArchive
    | LabelTableArchive
    | PixelTableArchive
    | MatlabArchive
    | ClipTableArchive
    | FrameSetArchive
    | ActionArchive
    | LexiconArchive
    | GeolocationArchive
    | PatternArchive
    | FactorArchive
    | LabelListArchive
    | WatermarkArchive
)
"""An archive format in the catalog; `kind` selects it."""
