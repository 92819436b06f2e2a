"""An explanation loss ("right for the right reasons", Ross et al. 2017, arXiv 1703.03717).

It teaches a network to look at the lesion: the share of its heatmaps that lies outside is penalised. Where the lesions
are is guessed from their colour (`worker.lesion`), so that no outline under another licence is learnt from, and the
outlines remain for measuring. A heatmap here is the sum that makes up the logit (`worker.gradcam`), so what changes is
what the network relies on, not how it is drawn.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from worker.gradcam import class_activation_maps
from worker.lesion import guess_lesion
from worker.network import leave_out_shared

_FAINT = 0.3
"""Of a logit: a map that adds no more than this to its class counts half at most, wherever it lies."""


def add_lesions(pixels: Tensor) -> Tensor:
    """Return uint8 (n, side, side, 4): images (n, side, side, 3), and 255 in a fourth channel where the lesion is."""
    with ThreadPoolExecutor() as pool:
        guessed = torch.from_numpy(np.stack(list(pool.map(guess_lesion, pixels.numpy()))))
    side = pixels.shape[1]
    lesions = functional.interpolate(guessed.unsqueeze(1).float(), (side, side), mode="bilinear")
    return torch.cat([pixels, lesions.mul(255).round().byte().permute(0, 2, 3, 1)], dim=3)


def share_off_lesion(features: Tensor, class_weights: Tensor, lesions: Tensor) -> Tensor:
    """Return the mean share of the classes' activation maps outside the lesions (N, 1, side, side), in [0, 1].

    The maps are of what tells the classes apart (`leave_out_shared`).

    Args:
        features: the last block's maps, (N, K, h, w).
        class_weights: the linear layer's weights, (classes, K).
    """
    maps = class_activation_maps(features.float(), leave_out_shared(class_weights))
    inside = functional.adaptive_avg_pool2d(lesions, maps.shape[2:])
    outside = (maps * (1 - inside)).sum(dim=(2, 3))
    return (outside / (maps.sum(dim=(2, 3)) + _FAINT)).mean()
