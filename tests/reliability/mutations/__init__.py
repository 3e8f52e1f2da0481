"""Generators of unusual datasets: folders, tables, tar shards and class folders with random mutations."""
