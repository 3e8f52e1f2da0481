"""Folders, tables and tar shards in; records, batches and an exact account of what was skipped out."""
