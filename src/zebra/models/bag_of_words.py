"""The bag-of-words baseline (CLIP §2.3): predict the words of the caption."""

import torch
from torch import Tensor, nn

from zebra.config.model import ModelConfig
from zebra.models.towers import build_image_tower


def tokens_to_multi_hot(tokens_BL: Tensor, vocab_size: int) -> Tensor:
    """Return which tokens a text contains between its start and end, bool [B, V].

    Args:
        tokens_BL: int64 ids; a text starts at position 0 and ends at its largest id, as in CLIP.
    """
    position_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
    inside_BL = (position_L > 0) & (position_L < tokens_BL.argmax(dim=1, keepdim=True))
    count_BV = torch.zeros(len(tokens_BL), vocab_size, dtype=torch.int64, device=tokens_BL.device)
    return count_BV.scatter_add_(1, tokens_BL, inside_BL.long()) > 0


class BagOfWords(nn.Module):
    """CLIP's image tower with a linear classifier over the vocabulary.

    Train it with `bag_of_words_loss`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = build_image_tower(config)
        self.head = nn.Linear(config.embed_dim, config.text.vocab_size)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits [B, V] for normalized pixels, float [B, 3, H, W]."""
        return self.head(self.visual(images_B3HW))

    def log_likelihood(self, images_B3HW: Tensor, tokens_CL: Tensor) -> Tensor:
        """Return the mean log-probability [B, C] of the words of each text, for zero-shot classification.

        The mean, because class names differ in their number of words; a text without words has score 0.
        """
        log_BV = self(images_B3HW).float().log_softmax(dim=1)
        words_CV = tokens_to_multi_hot(tokens_CL, log_BV.shape[1]).to(log_BV.dtype)
        return log_BV @ (words_CV / words_CV.sum(dim=1, keepdim=True).clamp(min=1)).T
