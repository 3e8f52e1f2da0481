"""Objectives: vectors of matching images and texts in, one scalar out."""

from zebra.losses.contrastive import info_nce as info_nce
