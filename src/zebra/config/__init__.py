"""Every knob: frozen dataclasses in, YAML in and out; no torch."""
