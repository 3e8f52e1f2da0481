"""Scores, journals and pictures in, files that people read out: metrics.json, figures and one HTML page."""
