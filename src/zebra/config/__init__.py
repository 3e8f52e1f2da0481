"""Configuration: frozen dataclasses, YAML files, presets. Imports no torch."""
