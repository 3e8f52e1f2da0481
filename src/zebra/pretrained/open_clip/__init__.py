"""open_clip's layout of a model folder, in and out."""

from zebra.pretrained.open_clip.layout import own_names, read_open_clip, write_open_clip

__all__ = ["own_names", "read_open_clip", "write_open_clip"]
