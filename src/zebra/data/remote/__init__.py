"""Byte-range access to shards on disk, in object stores and on web servers."""
