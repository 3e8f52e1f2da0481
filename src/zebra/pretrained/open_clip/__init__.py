"""Reading and writing of model folders in open_clip's layout."""

from zebra.pretrained.open_clip.layout import convert_from_open_clip, read_open_clip, write_open_clip

__all__ = ["convert_from_open_clip", "read_open_clip", "write_open_clip"]
