"""Training objectives: InfoNCE, the sigmoid loss, distillation, and two baselines."""

from zebra.losses.contrastive import info_nce as info_nce
from zebra.losses.distillation import affinity_loss as affinity_loss
from zebra.losses.distillation import feature_loss as feature_loss
from zebra.losses.predictive import bag_of_words_loss as bag_of_words_loss
from zebra.losses.predictive import captioning_loss as captioning_loss
from zebra.losses.sigmoid import sigmoid_loss as sigmoid_loss
