"""The menagerie: a built-in synthetic dataset of drawn animals with captions."""
