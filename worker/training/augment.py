"""Random rotations, flips, scales, shifts and colour changes, on whole batches and on any device."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worker.training.recipe import Augmentation

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def augment(pixels: Tensor, side: int, ranges: Augmentation, generator: Generator) -> Tensor:
    """Return float32 (N, 3, side, side) in [0, 1], each image changed on its own; `pixels` is uint8 (N, s, s, 3)."""
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    grid = functional.affine_grid(
        _random_affine(len(images), ranges, generator).to(images.device),
        [len(images), 3, side, side],
        align_corners=False,
    )
    warped = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _random_colour(warped, ranges, generator).clamp_(0, 1)


def _uniform(n: int, spread: float, generator: Generator) -> Tensor:
    return (torch.rand(n, generator=generator) * 2 - 1) * spread


def _random_affine(n: int, ranges: Augmentation, generator: Generator) -> Tensor:
    angle = _uniform(n, math.radians(ranges.rotation_deg), generator)
    zoom = 1 + _uniform(n, ranges.scale, generator)
    flip = torch.randint(0, 2, (n,), generator=generator) * 2 - 1
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    shift = torch.stack([_uniform(n, 2 * ranges.shift, generator) for _ in range(2)], dim=1)
    return torch.stack(
        [torch.stack([cos * flip, -sin, shift[:, 0]], dim=1), torch.stack([sin * flip, cos, shift[:, 1]], dim=1)], dim=1
    )


def _random_colour(images: Tensor, ranges: Augmentation, generator: Generator) -> Tensor:
    def factor(spread: float) -> Tensor:
        return (1 + _uniform(len(images), spread, generator)).view(-1, 1, 1, 1).to(images.device)

    images = images * factor(ranges.brightness)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor(ranges.contrast)
    grey = (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    return grey + (images - grey) * factor(ranges.saturation)
