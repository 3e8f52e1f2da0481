"""CLIP, its image and text towers, and the two baselines of the paper."""

from zebra.models.bag_of_words import BagOfWords as BagOfWords
from zebra.models.captioner import Captioner as Captioner
from zebra.models.clip import CLIP as CLIP
