"""Objectives: vectors of matching images and texts in, one scalar out."""

from zebra.losses.contrastive import info_nce as info_nce
from zebra.losses.sigmoid import sigmoid_loss as sigmoid_loss
