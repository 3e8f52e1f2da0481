"""The built-in world: a seed in; drawn animals with captions, as training shards and evaluation folders, out."""
