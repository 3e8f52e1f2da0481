"""Pools of links: pages and tables with addresses of images and captions."""
