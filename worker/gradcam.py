"""Grad-CAM without a backward pass."""

import torch
from torch import Tensor


def class_activation_maps(features: Tensor, class_weights: Tensor) -> Tensor:
    """Return Grad-CAM at the last block for the logit of every class at once, (N, classes, h, w), raw and ≥ 0.

    Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) is ReLU(Σ_k α_ck A_k), α_ck being the mean over the map of
    ∂logit_c/∂A_k. If only global average pooling and one linear layer follow, that derivative is w_ck / Z everywhere,
    Z = h·w, so no gradient is needed. The scale is kept: only maps on one scale can be compared between lesions.

    Args:
        features: the last block's maps A, (N, K, h, w).
        class_weights: the linear layer's weights w, (classes, K).
    """
    cells = features.shape[2] * features.shape[3]
    return torch.einsum("ck,nkhw->nchw", class_weights / cells, features).relu_()
