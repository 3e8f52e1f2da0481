"""Encoded pictures in; checked, cropped and resized pixels out."""
