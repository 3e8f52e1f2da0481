"""Pretrained models: folders of several layouts, read and written as a `Bundle`."""
