"""Targets and losses: smoothed or a teacher's, blended with mixup, weighted by class and difficulty."""

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.training.recipe import Loss


def make_targets(labels: Tensor, n_classes: int, loss: Loss, soft_labels: Tensor | None = None) -> Tensor:
    """Return float32 (n, classes), rows sum to one: labels, mixed with soft ones, then smoothed.

    `soft_labels` are a teacher's probabilities (n, classes) (distillation: Hinton et al. 2015, arXiv 1503.02531).
    """
    targets = functional.one_hot(labels, n_classes).float()
    if soft_labels is not None:
        targets = (1 - loss.teacher_share) * targets + loss.teacher_share * soft_labels.float()
    return (1 - loss.label_smoothing) * targets + loss.label_smoothing / n_classes


def weigh_classes(labels: Tensor, n_classes: int, exponent: float) -> Tensor:
    """Return float32 (classes,): frequencies to the power of -exponent, scaled so that the images' mean weight is 1."""
    counts = torch.bincount(labels, minlength=n_classes).float()
    weights = counts**-exponent
    return weights * counts.sum() / (weights * counts).sum()


def mix(images: Tensor, targets: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Blend each image and its target with a smaller share of another one (Zhang et al. 2018, arXiv 1710.09412)."""
    drawn = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    share = drawn.beta(alpha, alpha)
    share = min(share, 1 - share)
    other = torch.randperm(len(images), generator=generator).to(images.device)
    return images.lerp(images[other], share), targets.lerp(targets[other], share)


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, focal_gamma: float) -> Tensor:
    """Return the mean over the batch of Σ_c w_c t_c (1 - p_c)^γ (-log p_c) (Lin et al. 2017, arXiv 1708.02002)."""
    log_p = logits.float().log_softmax(dim=1)
    difficulty = (1 - log_p.exp()) ** focal_gamma if focal_gamma else 1
    return -(weights * targets * difficulty * log_p).sum(dim=1).mean()
