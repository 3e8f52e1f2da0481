"""The towers and the models that are made of them: pixels and token ids in, vectors of one space out."""

from zebra.models.bag_of_words import BagOfWords as BagOfWords
from zebra.models.captioner import Captioner as Captioner
from zebra.models.clip import CLIP as CLIP
